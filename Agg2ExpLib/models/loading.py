"""From a source that a user names - folder, file or bundled model - to a model that can be explained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.models.interface import Model
from Agg2ExpLib.models.library import Library
from Agg2ExpLib.models.metadata import metadata_file
from Agg2ExpLib.models.registry import format_of, formats
from Agg2ExpLib.models.untrusted import WEIGHT_SUFFIXES

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


def known_models() -> dict[str, Path]:
    """Return every model that has a name: those that the user added, and the bundled ones."""
    return {**{name: Path(entry.path) for name, entry in Library().models().items()}, **bundled_models()}


def find_model(source: str | Path) -> Path:
    """Return the folder or file that a source names: a path when there is one, else a model of that name.

    Raises
    ------
    InputError
        When there is neither.
    """
    path = Path(source)
    if path.exists():
        return path
    known = known_models()
    if str(source) in known:
        return known[str(source)]
    if path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise InputError(f"{source}: there is no such file or folder")
    if not known:
        raise InputError(f"{source}: there is no such file or folder, and no models are bundled here")
    raise InputError(f"{source}: is no file, no folder and no known model; {nearest_names(str(source), known)}")


#: What may be said beside a source; a format refuses what it cannot honour.
OPTIONS = (
    "labels",
    "spacing",
    "window",
    "intensity_range",
    "overlap",
    "blending",
    "orientation",
    "weights",
    "folds",
    "mirroring",
    "trust_checkpoint",
    "channels",
    "intensities",
)


def load_model(source: str | Path, **options: Any) -> Model:
    """Load a segmentation model, on the CPU and ready to answer.

    Parameters
    ----------
    source
        A model folder, a MONAI bundle (folder or zip), a folder that nnU-Net v2 trained, ``totalsegmentator:TASK``, a program
        (TorchScript, ``.pt2``, ``.onnx``), a bare Swin UNETR checkpoint (``.safetensors``, ``.pt``, ``.pth``, ``.ckpt``,
        ``.bin``), or the name of a bundled model or of one that was added.
    labels, spacing, window, intensity_range, overlap, blending, orientation
        Replace what the model's card says; see :class:`ModelCard` for their units. A bare checkpoint has no card: without
        the first four it is refused.
    folds
        Of nnU-Net: the folds whose logits are averaged, such as ``("0", "1")`` or ``("all",)``; every numbered one by default.
    mirroring
        Of nnU-Net: ``"on"`` (default) averages over mirrored copies where the checkpoint allows it, ``"off"`` saves the time.
    weights
        Which of several sets of weights in the file, such as ``"ema"``; the trained ones before their averages by default.
    channels, intensities
        Of a program: what each volume is, and what is done to intensities; see :mod:`Agg2ExpLib.models.programs`.
    trust_checkpoint
        See :func:`Agg2ExpLib.models.untrusted.read_sets`.

    Raises
    ------
    InputError
        When the source cannot be found, read, trusted or understood, or an option cannot be honoured.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise InputError(f"a model has no option {unknown[0]!r}: use {', '.join(OPTIONS)}")
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    if given.get("mirroring") not in (None, "on", "off"):
        raise InputError(f"--mirroring {given['mirroring']!r} must be on or off")
    if "folds" in given:
        given["folds"] = tuple(str(fold) for fold in given["folds"])
    entry = None if Path(source).exists() else Library().models().get(str(source))
    if entry is not None:
        model = load_model(entry.path, **{**_options_of(entry.options), **given})
        # These choose among weights, and so change what the model is.
        chosen = [name for name in ("folds", "mirroring", "weights") if name in given]
        if entry.identity and not chosen and model.sha256 != entry.identity:
            raise InputError(
                f"{entry.path}: has changed since it was added as {entry.name}; if that is meant, remove {entry.name} and add "
                "it again with its options: agg2exp model add"
            )
        return model
    found = format_of(str(source))
    if found is None:
        path = find_model(source)
        found = format_of(str(path))
        if found is None:
            raise InputError(
                f"{path}: is no model of a kind that can be read ({', '.join(one.name for one in formats().values())})"
            )
    kind, place = found
    return kind.load(place, given)


def _options_of(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
