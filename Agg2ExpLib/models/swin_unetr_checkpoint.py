"""A bare Swin UNETR checkpoint: the arguments of the network are told from the names and shapes of its tensors.

Reference
---------
Hatamizadeh et al., Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images, 2022,
https://arxiv.org/abs/2201.01266, as implemented in ``monai.networks.nets.SwinUNETR``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.untrusted import read_sets, sound_tensors
from Agg2ExpLib.models.weight_sets import Weights, choose, listed

if TYPE_CHECKING:
    import torch

#: What leaves no trace in the tensors and is taken as MONAI's default.
ASSUMED_ARGUMENTS = (
    "the network's downsampling is MONAI's default 'merging', its features normalised: weights cannot tell"
)

_STAGES = (1, 2, 3, 4)
_VOLUME_WEIGHT_AXES = 5
_PATCH = "swinViT.patch_embed.proj.weight"
_OUT = "out.conv.conv.weight"


def is_swin_unetr(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether named tensors look like those of a Swin UNETR."""
    return _PATCH in tensors and _OUT in tensors


def normalise_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors under today's names: self-supervised pretraining called the MLP's layers fc1 and fc2."""
    return {re.sub(r"\.mlp\.fc([12])\.", r".mlp.linear\1.", name): tensor for name, tensor in tensors.items()}


def read_weights(
    path: Path,
    trust_checkpoint: bool,
    *,
    names: Sequence[str] = (_PATCH, _OUT),
    wanted: str | None = None,
    preferred: str | None = None,
) -> Weights:
    """Read the weights of a network from a file; those of a Swin UNETR under today's names.

    Parameters
    ----------
    path : Path
        See :func:`~Agg2ExpLib.models.untrusted.read_sets`, also for ``trust_checkpoint``.
    names : sequence of str
        Names of the network's tensors; by default two that every Swin UNETR has.
    wanted, preferred : str, optional
        See :func:`~Agg2ExpLib.models.weight_sets.choose`.

    Raises
    ------
    InputError
        A file that cannot be read or trusted, or has no such set.
    """
    sets = {key: normalise_names(tensors) for key, tensors in read_sets(path, trust_checkpoint).items()}
    found = choose(sets, names, path, wanted=wanted, preferred=preferred)
    if names == (_PATCH, _OUT) and not is_swin_unetr(found.tensors):
        raise InputError(f"{path}: {_why_not(found.tensors, sets)}")
    return replace(found, tensors=sound_tensors(found.tensors, path))


def infer_architecture(tensors: Mapping[str, torch.Tensor], source: str | Path) -> dict[str, Any]:
    """Return the architecture of a Swin UNETR's tensors, as it stands in a card.

    Parameters
    ----------
    tensors
        Name -> tensor, names normalised.
    source
        The file, named in errors.

    Raises
    ------
    InputError
        When the tensors are of another network, of a two-dimensional one or of one that does not take one channel.
    """
    if not is_swin_unetr(tensors):
        raise InputError(f"{source}: {_why_not(tensors, {'': dict(tensors)})}")
    try:
        return {"name": "SwinUNETR", "arguments": _arguments(tensors, source)}
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{source}: this is not a Swin UNETR checkpoint, although it begins like one; it is damaged or of another network. "
            f"Details: it has {_PATCH} but lacks or misshapes {error}"
        ) from None


def _arguments(tensors: Mapping[str, torch.Tensor], source: str | Path) -> dict[str, Any]:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    patch, out = shapes[_PATCH], shapes[_OUT]
    if len(patch) != _VOLUME_WEIGHT_AXES:
        raise InputError(f"{source}: is a two-dimensional Swin UNETR; a CT needs a three-dimensional one")
    feature_size, in_channels, patch_size = patch[0], patch[1], patch[2]
    if in_channels != 1:
        raise InputError(f"{source}: this Swin UNETR takes {in_channels} input channels; a CT has one")
    if any(".norm" in name and name.startswith(("encoder", "decoder")) for name in shapes):
        raise InputError(
            f"{source}: this Swin UNETR has normalisation layers with weights, which cannot be told apart from "
            "the tensors; describe the network in a model folder's card (norm_name)"
        )
    depths = [_count_blocks(shapes, stage) for stage in _STAGES]
    tables = [shapes[f"{_block(stage)}.attn.relative_position_bias_table"] for stage in _STAGES]
    hidden, width = shapes[f"{_block(1)}.mlp.linear1.weight"]
    return {
        "in_channels": in_channels,
        "out_channels": out[0],
        "patch_size": patch_size,
        "depths": depths,
        "num_heads": [heads for _, heads in tables],
        "window_size": _window_size(tables[0][0], source),
        "qkv_bias": f"{_block(1)}.attn.qkv.bias" in shapes,
        "mlp_ratio": hidden / width,
        "feature_size": feature_size,
        "patch_norm": "swinViT.patch_embed.norm.weight" in shapes,
        "use_v2": any(name.startswith("swinViT.layers1c.") for name in shapes),
    }


def _block(stage: int) -> str:
    return f"swinViT.layers{stage}.0.blocks.0"


def _count_blocks(shapes: Mapping[str, Any], stage: int) -> int:
    pattern = re.compile(rf"swinViT\.layers{stage}\.0\.blocks\.(\d+)\.")
    return len({match.group(1) for name in shapes if (match := pattern.match(name))})


def _window_size(rows: int, source: str | Path) -> int:
    """Solve rows = (2 w - 1) ** 3, the number of relative positions in a cubic attention window of side w."""
    side = round(rows ** (1 / 3))
    if side**3 != rows or side % 2 == 0:
        raise InputError(
            f"{source}: this Swin UNETR's attention window is not a cube ({rows} relative positions); "
            "describe the network in a model folder's card"
        )
    return (side + 1) // 2


def _why_not(tensors: Mapping[str, torch.Tensor], sets: Mapping[str, dict[str, torch.Tensor]]) -> str:
    headless = not any(name.endswith(_OUT) for group in sets.values() for name in group)
    if headless and any(name.endswith("patch_embed.proj.weight") and "layers1" in "".join(tensors) for name in tensors):
        return (
            "this is not a Swin UNETR checkpoint but only its pretrained encoder (no output layer); "
            "a network trained to segment is needed"
        )
    return (
        "this is not a Swin UNETR checkpoint, the only kind that is told from its weights alone; give the whole folder that "
        "the model came in (nnU-Net, MONAI bundle), or a model folder whose metadata.json names the network. Details: "
        f"{listed(sets)}, none of them with {_PATCH} and {_OUT}"
    )
