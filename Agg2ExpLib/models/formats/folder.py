"""A model folder in the shape of a MONAI bundle: this project's own, and those of others as far as their plain values go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from Agg2ExpLib.models.architectures import build_network
from Agg2ExpLib.models.bundle import check_weights_match, weights_file
from Agg2ExpLib.models.card import read_card
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.registry import Format, refuse_options, register
from Agg2ExpLib.models.swin_unetr_checkpoint import infer_architecture, read_state
from Agg2ExpLib.models.untrusted import sha256


def _knows(source: str) -> bool:
    return Path(source).is_dir()


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    folder, given = Path(source), dict(options)
    refuse_options(given, source, ("folds", "mirroring"))
    trusted = bool(given.pop("trust_checkpoint", False))
    card = read_card(folder, **given)
    path = weights_file(folder)
    digest = sha256(path)
    check_weights_match(folder, digest)
    tensors = read_state(path, trusted)
    if not card.architecture:
        # Checked again with its architecture, so that labels and window fit the network.
        card = read_card(folder, **given, architecture=infer_architecture(tensors, path))
    network = build_network(card.architecture, tensors, len(card.labels), card.window, path)
    return SegmentationModel(card, network, digest, path)


FOLDER = register(Format("folder", "model folder (MONAI bundle)", _knows, _load))
