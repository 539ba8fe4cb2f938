"""A model folder in the shape of a MONAI bundle: this project's own, and those whose user says what the folder does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.architectures import build_network, network_names
from Agg2ExpLib.models.bundle import check_weights_match, weights_file
from Agg2ExpLib.models.bundle_config import INFERENCE_FILES
from Agg2ExpLib.models.card import read_card
from Agg2ExpLib.models.metadata import is_own, metadata_file
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.registry import Format, refuse_options, register
from Agg2ExpLib.models.swin_unetr_checkpoint import infer_architecture, read_weights
from Agg2ExpLib.models.untrusted import sha256
from Agg2ExpLib.models.weight_sets import identity, loaded_with

_PREPARATION = ("spacing", "intensity_range", "orientation")


def _knows(source: str) -> bool:
    return Path(source).is_dir()


def _load(source: str, options: Mapping[str, Any]) -> SegmentationModel:
    folder, given = Path(source), dict(options)
    refuse_options(given, source, ("folds", "mirroring", "channels", "intensities"))
    trusted, wanted = bool(given.pop("trust_checkpoint", False)), given.pop("weights", None)
    card = read_card(folder, **given)
    _refuse_silence(folder, given)
    path = weights_file(folder)
    digest = sha256(path)
    check_weights_match(folder, digest)
    if card.architecture:
        weights = read_weights(path, trusted, names=network_names(card.architecture, path), wanted=wanted)
    else:
        weights = read_weights(path, trusted, wanted=wanted)
        # Checked again with its architecture, so that labels and window fit the network.
        card = read_card(folder, **given, architecture=infer_architecture(weights.tensors, path))
    if weights.notes or wanted:
        assumed = [*card.assumptions, *weights.notes]
        card = replace(card, extra={**card.extra, "assumed": assumed, **loaded_with(wanted)})
    network = build_network(card.architecture, weights.tensors, len(card.labels), card.window, path)
    return SegmentationModel(card, network, identity(digest, wanted, weights), path)


def _refuse_silence(folder: Path, given: Mapping[str, Any]) -> None:
    """Refuse a bundle of another author that does not say how a scan is prepared, unless the user says it."""
    metadata = metadata_file(folder)
    if metadata is None or is_own(metadata):
        return
    missing = [name for name in _PREPARATION if name not in given]
    if missing:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise InputError(
            f"{folder}: has no {' or '.join(INFERENCE_FILES[:2])}, so it does not say the {', '.join(missing)} that its "
            f"network was trained with; fetch the whole bundle, or give {options}"
        )


FOLDER = register(Format("folder", "model folder (MONAI bundle)", _knows, _load))
