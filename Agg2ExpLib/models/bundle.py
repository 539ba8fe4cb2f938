"""Model folders in the shape of a MONAI bundle: reading one, and writing one whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.models.architectures import COMPUTED_BUFFERS
from Agg2ExpLib.models.card import ModelCard, read_card
from Agg2ExpLib.models.metadata import metadata_file, read_json
from Agg2ExpLib.models.untrusted import WEIGHT_SUFFIXES, sha256
from Agg2ExpLib.storage import Kind, write_folder

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.models.model import SegmentationModel

_WEIGHTS = "models/model.safetensors"
_STORED_TYPES = ("float32", "float16")
_KIND = Kind("a model folder", lambda folder: metadata_file(folder) is not None)


def weights_file(folder: str | Path) -> Path:
    """Return the weights file of a model folder: ``models/model.*`` first, else the only one there is.

    Raises
    ------
    InputError
        When there is none, or several that cannot be told apart.
    """
    folder = Path(folder)
    for place in (folder / "models", folder):
        named = [place / f"model{suffix}" for suffix in WEIGHT_SUFFIXES if (place / f"model{suffix}").is_file()]
        if named:
            return named[0]
        others = sorted(path for path in place.glob("*") if path.suffix in WEIGHT_SUFFIXES and path.is_file())
        if len(others) == 1:
            return others[0]
        if others:
            names = ", ".join(path.name for path in others[:4])
            raise InputError(f"{place}: holds several weights files ({names}); name the one to use model.safetensors")
    raise InputError(f"{folder}: holds no weights; {_WEIGHTS} is expected")


def check_weights_match(folder: Path, digest: str) -> None:
    """Raise :class:`InputError` when a folder's card states another SHA-256 than its weights file has."""
    path = metadata_file(folder)
    section = read_json(path).get("agg2exp") if path else None
    stated = section.get("weights_sha256") if isinstance(section, Mapping) else None
    if stated is not None and stated != digest:
        raise InputError(
            f"{folder}: its weights are not those its card was written for (damaged or replaced); "
            "fetch the folder again, or write it anew with its new weights"
        )


def refuse_other_folder(folder: str | Path) -> None:
    """Raise :class:`OutputError` when a model written to ``folder`` would take the place of something else."""
    folder = Path(folder)
    _KIND.refuse_foreign(folder)
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".agg2exp"):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


def write_model_folder(
    folder: str | Path,
    network_state_dict: Mapping[str, torch.Tensor],
    card: ModelCard,
    *,
    readme: str = "",
    dtype: str = "float32",
) -> Path:
    """Write a model as a MONAI bundle; a folder of an earlier model is replaced, never half of it.

    Parameters
    ----------
    folder
        The model folder.
    network_state_dict
        Name -> tensor. Buffers that every network computes for itself are left out.
    card
        With its architecture, so that the folder says everything about the network.
    readme
        ``docs/README.md``; the card's description when empty.
    dtype
        ``"float32"`` or ``"float16"`` (half the size; read back as float32).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the weights cannot be stored so, or the card names no architecture.
    OutputError
        When the folder cannot be written or holds something that is not a model.
    """
    folder = Path(folder)
    if not card.architecture:
        raise InputError(f"{folder}: the card names no architecture, so the weights alone could not be loaded again")
    tensors = _stored(network_state_dict, dtype)
    with write_folder(folder, _KIND, overwrite=True) as part:
        _fill(part, tensors, card, readme)
    return folder


def save_model(model: SegmentationModel, folder: str | Path, *, readme: str = "", dtype: str = "float32") -> Path:
    """Write a loaded model as a model folder, for example a bare checkpoint after :func:`load_model`."""
    return write_model_folder(folder, model.network.state_dict(), model.card, readme=readme, dtype=dtype)


def _stored(state: Mapping[str, torch.Tensor], dtype: str) -> dict[str, torch.Tensor]:
    import torch

    if dtype not in _STORED_TYPES:
        raise InputError(f"weights can be stored as {' or '.join(_STORED_TYPES)}, not as {dtype}")
    kept = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in COMPUTED_BUFFERS}
    stored = {}
    for name, tensor in kept.items():
        plain = tensor.detach().cpu()
        if plain.is_floating_point():
            plain = plain.to(getattr(torch, dtype))
            if not torch.isfinite(plain).all():
                raise InputError(f"{name}: cannot be stored as {dtype} (NaN, infinite or too large)")
        # A copy of its own, because safetensors refuses tensors that share memory.
        stored[name] = plain.contiguous().clone()
    return stored


def _fill(folder: Path, tensors: Mapping[str, torch.Tensor], card: ModelCard, readme: str) -> None:
    from safetensors.torch import save_file

    for place in ("configs", "models", "docs"):
        (folder / place).mkdir(parents=True)
    save_file(dict(tensors), folder / _WEIGHTS, metadata={"format": "pt"})
    metadata = card.to_metadata()
    metadata["agg2exp"]["weights_sha256"] = sha256(folder / _WEIGHTS)
    _write_json(folder / "configs/metadata.json", metadata)
    _write_json(folder / "configs/inference.json", _inference(card))
    (folder / "docs/README.md").write_text(readme or _readme(card), encoding="utf-8")
    (folder / "LICENSE").write_text((card.licence or "No licence was stated.") + "\n", encoding="utf-8")
    # What was written must also be readable: the folder is refused here rather than on the day it is needed.
    read_card(folder)


def _inference(card: ModelCard) -> dict[str, Any]:
    """Return a minimal MONAI inference configuration that says the same as the card, for users of MONAI alone."""
    if card.intensity_range is None or card.window is None:
        raise InputError(
            f"{card.name}: its card states no intensity_range or window, so it cannot be written as a folder"
        )
    low, high = card.intensity_range
    transforms: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": card.orientation},
    ]
    if card.spacing:
        transforms.append({"_target_": "Spacingd", "keys": "image", "pixdim": list(card.spacing), "mode": "bilinear"})
    transforms.append(
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": low,
            "a_max": high,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
        }
    )
    return {
        "imports": ["$import torch", "$from safetensors.torch import load_file"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": card.architecture["name"], **card.architecture["arguments"]},
        "weights": f"$load_file(@bundle_root + '/{_WEIGHTS}')",
        # Not strict: the buffers that the network computes for itself are not stored.
        "load_weights": "$@network_def.load_state_dict(@weights, strict=False)",
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(card.window),
            "sw_batch_size": 1,
            "overlap": card.overlap,
            "mode": card.blending,
        },
    }


def _readme(card: ModelCard) -> str:
    labels = "\n".join(f"{index}. {label}" for index, label in enumerate(card.labels))
    return f"# {card.name}\n\n{card.description}\n\nClasses, numbered from 0:\n\n{labels}\n"


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
