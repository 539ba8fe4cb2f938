"""From a source that a user names - folder, file or bundled model - to a model that can be explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.anatomy import class_names
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.models.architectures import build_network
from Agg2ExpLib.models.bundle import check_weights_match, weights_file
from Agg2ExpLib.models.card import DEFAULT_WINDOW, PAPER_INTENSITY_RANGE, PAPER_SPACING, ModelCard, make_card, read_card
from Agg2ExpLib.models.metadata import metadata_file
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.models.swin_unetr_checkpoint import (
    ASSUMED_ARGUMENTS,
    infer_architecture,
    is_swin_unetr,
    normalise_names,
)
from Agg2ExpLib.models.untrusted import WEIGHT_SUFFIXES, name_variants, read_tensors, sha256

if TYPE_CHECKING:
    import torch

_PACKAGE = Path(__file__).resolve().parents[1]
#: Where bundled models lie: in an installed package, then in a source tree.
_MODEL_PLACES = (_PACKAGE / "Resources" / "Models", _PACKAGE.parent / "Resources" / "Models")


def bundled_models() -> dict[str, Path]:
    """Return the models that came with this program: name -> model folder."""
    found: dict[str, Path] = {}
    for place in _MODEL_PLACES:
        for folder in sorted(place.iterdir()) if place.is_dir() else ():
            # A name with a leading dot is a folder that is being written.
            if metadata_file(folder) and not folder.name.startswith("."):
                found.setdefault(folder.name, folder)
    return found


def find_model(source: str | Path) -> Path:
    """Return the folder or file that a source names: a path when there is one, else a bundled model.

    Raises
    ------
    InputError
        When there is neither.
    """
    path = Path(source)
    if path.exists():
        return path
    bundled = bundled_models()
    if str(source) in bundled:
        return bundled[str(source)]
    if path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise InputError(f"{source}: there is no such file or folder")
    if not bundled:
        raise InputError(f"{source}: there is no such file or folder, and no models are bundled here")
    raise InputError(f"{source}: is no file, no folder and no bundled model; {nearest_names(str(source), bundled)}")


def load_model(
    source: str | Path,
    *,
    labels: tuple[str, ...] | list[str] | None = None,
    spacing: tuple[float, float, float] | None = None,
    window: tuple[int, int, int] | None = None,
    intensity_range: tuple[float, float] | None = None,
    overlap: float | None = None,
    blending: str | None = None,
    orientation: str | None = None,
    trust_checkpoint: bool = False,
) -> SegmentationModel:
    """Load a segmentation model, on the CPU and ready to answer.

    Parameters
    ----------
    source
        A model folder (MONAI bundle), a bare Swin UNETR checkpoint (``.safetensors``, ``.pt``, ``.pth``, ``.ckpt``,
        ``.bin``), or the name of a bundled model.
    labels, spacing, window, intensity_range, overlap, blending, orientation
        Replace what the model's card says; see :class:`ModelCard` for their units. A bare checkpoint has no card: its
        missing fields are those of the paper's model, and the card's ``assumptions`` say which.
    trust_checkpoint
        See :func:`Agg2ExpLib.models.untrusted.read_tensors`.

    Raises
    ------
    InputError
        When the source cannot be found, read, trusted or understood.
    """
    overrides = {
        "labels": labels,
        "spacing": spacing,
        "window": window,
        "intensity_range": intensity_range,
        "overlap": overlap,
        "blending": blending,
        "orientation": orientation,
    }
    path = find_model(source)
    if path.is_dir():
        return _load_folder(path, overrides, trust_checkpoint)
    return _load_file(path, overrides, trust_checkpoint)


def _load_folder(folder: Path, overrides: dict[str, Any], trust_checkpoint: bool) -> SegmentationModel:
    card = read_card(folder, **overrides)
    path = weights_file(folder)
    digest = sha256(path)
    check_weights_match(folder, digest)
    tensors = _read(path, trust_checkpoint)
    if not card.architecture:
        # Checked again with its architecture, so that labels and window fit the network.
        overrides = {**overrides, "architecture": infer_architecture(tensors, path)}
        card = read_card(folder, **overrides)
    return _build(card, tensors, digest, path)


def _load_file(path: Path, overrides: dict[str, Any], trust_checkpoint: bool) -> SegmentationModel:
    digest = sha256(path)
    tensors = _read(path, trust_checkpoint)
    architecture = infer_architecture(tensors, path)
    defaults = {
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
        "extra": {"assumed": [*assumed, ASSUMED_ARGUMENTS]},
    }
    return _build(make_card(found, path, **overrides), tensors, digest, path)


def _read(path: Path, trust_checkpoint: bool) -> dict[str, torch.Tensor]:
    tensors = read_tensors(path, trust_checkpoint)
    bare = name_variants(tensors)[-1]
    return normalise_names(bare) if is_swin_unetr(bare) else tensors


def _build(card: ModelCard, tensors: dict[str, torch.Tensor], digest: str, path: Path) -> SegmentationModel:
    network = build_network(card.architecture, tensors, len(card.labels), card.window, path)
    return SegmentationModel(card, network, digest, path)


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(str(item) for item in value)
