"""A bare Swin UNETR checkpoint: weights without a card. What weights cannot tell is asked for by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from Agg2ExpLib.models.architectures import build_network
from Agg2ExpLib.models.card import make_card
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.programs import ASKED_OF_CHECKPOINT, OWN, refuse_unsaid
from Agg2ExpLib.models.registry import Format, refuse_options, register
from Agg2ExpLib.models.swin_unetr_checkpoint import ASSUMED_ARGUMENTS, infer_architecture, read_weights
from Agg2ExpLib.models.untrusted import sha256
from Agg2ExpLib.models.weight_sets import identity, loaded_with


def _knows(source: str) -> bool:
    return Path(source).is_file()


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    path, given = Path(source), dict(options)
    refuse_options(given, source, ("folds", "mirroring", "channels", "intensities"))
    trusted = bool(given.pop("trust_checkpoint", False))
    digest = sha256(path)
    wanted = given.pop("weights", None)
    weights = read_weights(path, trusted, wanted=wanted)
    architecture = infer_architecture(weights.tensors, path)
    answers = f"its {architecture['arguments']['out_channels']} outputs"
    refuse_unsaid(
        path,
        given,
        ASKED_OF_CHECKPOINT,
        f"a checkpoint holds weights and not what {answers} mean or how a CT is shown to it",
    )
    assumed = ["orientation: RAS, because a bare checkpoint does not state it", ASSUMED_ARGUMENTS, *weights.notes]
    own = {name: OWN for name in ("spacing", "window") if given[name] == OWN}
    kept = loaded_with(wanted).get("options", {}) | own
    found = {
        "name": path.stem,
        "orientation": "RAS",
        **dict.fromkeys(own),
        "architecture": architecture,
        "extra": {"assumed": assumed, **({"options": kept} if kept else {})},
    }
    card = make_card(found, path, **{name: value for name, value in given.items() if name not in own})
    network = build_network(card.architecture, weights.tensors, len(card.labels), card.window, path)
    return SegmentationModel(card, network, identity(digest, wanted, weights), path)


CHECKPOINT = register(Format("checkpoint", "Swin UNETR checkpoint", _knows, _load, ASKED_OF_CHECKPOINT))
