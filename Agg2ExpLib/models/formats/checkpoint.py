"""A bare Swin UNETR checkpoint: weights without a card. What it cannot tell is assumed as in the paper, and said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from Agg2ExpLib.anatomy import class_names
from Agg2ExpLib.models.architectures import build_network
from Agg2ExpLib.models.card import DEFAULT_WINDOW, PAPER_INTENSITY_RANGE, PAPER_SPACING, make_card
from Agg2ExpLib.models.model import SegmentationModel
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
    defaults: dict[str, Any] = {
        "labels": class_names(architecture["arguments"]["out_channels"]),
        "spacing": PAPER_SPACING,
        "intensity_range": PAPER_INTENSITY_RANGE,
        "window": DEFAULT_WINDOW,
        "orientation": "RAS",
    }
    assumed = [
        f"{name}: {_listed(value)}, because a bare checkpoint does not state it" for name, value in defaults.items()
    ]
    found = {
        **defaults,
        "name": path.stem,
        "architecture": architecture,
        "extra": {"assumed": [*assumed, ASSUMED_ARGUMENTS, *weights.notes], **loaded_with(wanted)},
    }
    card = make_card(found, path, **given)
    network = build_network(card.architecture, weights.tensors, len(card.labels), card.window, path)
    return SegmentationModel(card, network, identity(digest, wanted, weights), path)


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(str(item) for item in value)


CHECKPOINT = register(Format("checkpoint", "Swin UNETR checkpoint", _knows, _load))
