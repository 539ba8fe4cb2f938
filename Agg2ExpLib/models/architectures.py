"""The networks a model card may name - the one table of them - and how they are built without trusting the card.

A card is a file from anyone: it can name only what stands in :data:`ARCHITECTURES`, and its arguments are plain
bounded values. The network is first laid out on torch's *meta* device, where tensors have shapes but no memory, and
compared with the tensors of the weights file; only then is memory allocated. torch and monai are imported on use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.errors import InputError, nearest_names

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Name in a card -> class in ``monai.networks.nets``.
ARCHITECTURES: dict[str, str] = {
    "SwinUNETR": "SwinUNETR",
    "UNet": "UNet",
    "SegResNet": "SegResNet",
    "DynUNet": "DynUNet",
    "UNETR": "UNETR",
    "BasicUNet": "BasicUNet",
}

#: Buffers that a network computes from its arguments; files of some versions carry them and others do not.
COMPUTED_BUFFERS = ("relative_position_index", "attn_mask", "num_batches_tracked")

_MAX_INT = 4096
_MAX_DEPTH = 64
_MAX_FLOAT = 1e6
_MAX_TEXT = 64
_MAX_VALUES = 512
_MAX_NESTING = 4
_DEPTH_ARGUMENTS = ("depths", "num_layers", "blocks_down", "blocks_up", "num_res_units", "hyena_kernel_layers")
_DIMENSIONS = 3
_SWIN_STAGES = 5
_ANY_SIDE = 64
# Arguments of earlier versions of MONAI that changed nothing in the network.
_GONE: dict[str, tuple[str, ...]] = {"SwinUNETR": ("img_size",)}
_RENAMED = {"dimensions": "spatial_dims", "pos_embed": "proj_type"}
# Memory a network may take beyond its weights file: position tables and other computed buffers.
_MAX_COMPUTED_BYTES = 2**31
_SHOWN_KEYS = 3


def check_architecture(architecture: Any, outputs: int, channels: int = 1) -> dict[str, Any]:
    """Return an architecture as plain JSON values.

    Parameters
    ----------
    architecture
        ``{"name": str, "arguments": dict}``, or empty when it must be told from the weights.
    outputs
        Logits at each voxel; must equal the network's ``out_channels``.
    channels
        Volumes that the model takes; must equal the network's ``in_channels``.

    Raises
    ------
    InputError
        When the name is not in the table or an argument is not a plain value of sane size.
    """
    if not isinstance(architecture, Mapping):
        raise InputError("architecture: must be a mapping with a name and arguments")
    if not architecture:
        return {}
    name, arguments = architecture.get("name"), architecture.get("arguments", {})
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise InputError(
            f"architecture: {str(name)[:60]!r} is not a network that can be loaded; "
            f"{nearest_names(str(name)[:60], ARCHITECTURES)}"
        )
    if set(architecture) - {"name", "arguments"} or not isinstance(arguments, Mapping):
        raise InputError("architecture: must have exactly a name and a mapping of arguments")
    _check_values(arguments)
    plain = json.loads(json.dumps(dict(arguments)))
    _check_channels(plain, outputs, channels)
    return {"name": name, "arguments": plain}


def current_arguments(name: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return arguments as today's MONAI takes them, and one sentence for each that was changed.

    Examples
    --------
    >>> current_arguments("SwinUNETR", {"img_size": 96, "out_channels": 2})[0]
    {'out_channels': 2}
    """
    gone = [key for key in arguments if key in _GONE.get(name, ())]
    renamed = {key: _RENAMED[key] for key in arguments if key in _RENAMED}
    told = [f"{key}: {name} of today's MONAI has no such argument; it changed nothing and was left out" for key in gone]
    told += [f"{old}: is called {new} in today's MONAI" for old, new in renamed.items()]
    return {renamed.get(key, key): value for key, value in arguments.items() if key not in gone}, told


def network_names(architecture: Mapping[str, Any], source: str | Path) -> list[str]:
    """Return the names of a network's tensors, without those that it computes for itself.

    Raises
    ------
    InputError
        A network that cannot be built of these arguments.
    """
    return [name for name in _outline(architecture, source).state_dict() if not _is_computed(name)]


def check_window(architecture: Mapping[str, Any], window: tuple[int, int, int] | None) -> None:
    """Raise :class:`InputError` when a Swin UNETR cannot take a window of that many voxels."""
    if architecture.get("name") != "SwinUNETR" or window is None:
        return
    patch = architecture["arguments"].get("patch_size", 2)
    step = patch**_SWIN_STAGES if isinstance(patch, int) else 0
    if step < 1 or any(side % step for side in window):
        raise InputError(f"window: {list(window)} voxels; each side of a Swin UNETR window must be divisible by {step}")
    normalised = architecture["arguments"].get("norm_name", "instance") == "instance"
    # The deepest features have one voxel per step; instance normalisation of a single voxel is undefined.
    if normalised and math.prod(window) == step**_DIMENSIONS:
        raise InputError(f"window: {list(window)} voxels; a Swin UNETR window needs {2 * step} along one axis at least")


def build_network(
    architecture: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    outputs: int,
    window: tuple[int, int, int] | None,
    source: str | Path,
    channels: int = 1,
) -> nn.Module:
    """Build the network of a card and give it the tensors of a weights file.

    Parameters
    ----------
    architecture
        As in a card, not empty.
    tensors
        Name -> tensor; the names and shapes must be exactly the network's, computed buffers aside.
    outputs
        Logits at each voxel.
    window
        Voxels of one window; a network that cannot take it is refused. ``None`` is the whole volume.
    source
        The weights file, named in errors.
    channels
        Volumes that the network takes.

    Returns
    -------
    torch.nn.Module
        On the CPU, float32, in evaluation mode, with gradients for its parameters switched off.

    Raises
    ------
    InputError
        When the arguments, the tensors, the window and the number of classes do not belong together.
    """
    import torch

    outline = _outline(architecture, source)
    _check_tensors(outline, tensors, architecture["name"], source)
    _check_memory(outline, tensors, source)
    _check_answer(outline, outputs, window or _any_window(architecture), source, channels)
    # Building draws random weights; the caller's random numbers must not depend on having loaded a model.
    with torch.random.fork_rng(devices=[]):
        network = _construct(architecture, source)
    state = network.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            if _is_computed(name):
                _check_computed(name, tensor, state, source)
            else:
                state[name].copy_(tensor)
    return network.eval().requires_grad_(False)


def _check_values(arguments: Mapping[str, Any]) -> None:
    """Refuse anything but bounded plain values; MONAI's ``$``, ``@`` and ``%`` expressions are refused too."""
    pending: list[tuple[str, Any, int]] = [(str(name), value, 0) for name, value in arguments.items()]
    seen = 0
    while pending:
        where, value, level = pending.pop()
        seen += 1
        if seen > _MAX_VALUES or level > _MAX_NESTING:
            raise InputError("architecture: has too many arguments")
        if not where.isidentifier() or len(where) > _MAX_TEXT:
            raise InputError(f"architecture: {where[:_MAX_TEXT]!r} is not an argument's name")
        if isinstance(value, Mapping):
            pending += [(str(name), item, level + 1) for name, item in value.items()]
        elif isinstance(value, (list, tuple)):
            pending += [(where, item, level + 1) for item in value[: _MAX_VALUES + 1]]
        elif not _is_plain(where, value):
            raise InputError(f"architecture: argument {where} has a value that is not allowed: {repr(value)[:60]}")


def _is_plain(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) <= (_MAX_DEPTH if name in _DEPTH_ARGUMENTS else _MAX_INT)
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) <= _MAX_FLOAT
    return (
        isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable() and value[:1] not in ("$", "@", "%")
    )


def _check_channels(arguments: Mapping[str, Any], outputs: int, channels: int) -> None:
    if arguments.get("spatial_dims", _DIMENSIONS) != _DIMENSIONS:
        raise InputError("architecture: spatial_dims must be 3; a CT is a volume")
    takes = arguments.get("in_channels", channels)
    if takes != channels:
        what = "a CT has one, so it cannot be explained on a CT" if channels == 1 else f"the model states {channels}"
        raise InputError(f"architecture: the network takes {takes} input channels; {what}")
    if arguments.get("out_channels", outputs) != outputs:
        raise InputError(
            f"labels: {outputs} names, but the network answers {arguments['out_channels']} classes; "
            "give one name per class, background first"
        )


def _construct(architecture: Mapping[str, Any], source: str | Path) -> nn.Module:
    from monai.networks import nets

    builder = getattr(nets, ARCHITECTURES[architecture["name"]])
    try:
        return builder(**architecture["arguments"])
    except Exception as error:  # MONAI's constructors raise whatever their first impossible line raises
        raise InputError(f"{source}: {architecture['name']} cannot be built: {_first_line(error)}") from None


def _outline(architecture: Mapping[str, Any], source: str | Path) -> nn.Module:
    """Lay the network out on the meta device: every shape, no memory."""
    import torch
    from torch.overrides import TorchFunctionMode

    class ReadableLinspace(TorchFunctionMode):
        """Keep linspace off the meta device: SwinUNETR reads its drop-path rates back as numbers."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func is torch.linspace:
                kwargs.setdefault("device", "cpu")
            return func(*args, **kwargs)

    with torch.device("meta"), ReadableLinspace():
        return _construct(architecture, source).eval()


def _check_tensors(outline: nn.Module, tensors: Mapping[str, torch.Tensor], name: str, source: str | Path) -> None:
    expected = {key: tuple(value.shape) for key, value in outline.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    missing = [key for key in expected if key not in found and not _is_computed(key)]
    unexpected = [key for key in found if key not in expected and not _is_computed(key)]
    misshapen = [
        f"{key} {list(found[key])} instead of {list(expected[key])}"
        for key in found
        if key in expected and found[key] != expected[key]
    ]
    problems = [
        f"{what} {', '.join(keys[:_SHOWN_KEYS])}{f' and {len(keys) - _SHOWN_KEYS} more' * (len(keys) > _SHOWN_KEYS)}"
        for what, keys in (("lacks", missing), ("has unexpected", unexpected), ("has", misshapen))
        if keys
    ]
    if problems:
        raise InputError(
            f"{source}: these weights do not belong to the model that is described with them (a {name}); give the file that came "
            f"with that description. Details: it {'; '.join(problems)}"
        )


def _check_memory(outline: nn.Module, tensors: Mapping[str, torch.Tensor], source: str | Path) -> None:
    planned = sum(item.numel() * item.element_size() for item in (*outline.parameters(), *outline.buffers()))
    held = sum(tensor.numel() for tensor in tensors.values()) * 4
    if planned > held + _MAX_COMPUTED_BYTES:
        raise InputError(
            f"{source}: the network described would need {planned / 2**30:.0f} GiB, far more than the weights hold"
        )


def _any_window(architecture: Mapping[str, Any]) -> tuple[int, int, int]:
    """Voxels that a network can take when the scan will say how many there are."""
    side = architecture["arguments"].get("img_size", _ANY_SIDE)
    i, j, k = side if isinstance(side, (list, tuple)) else [side] * _DIMENSIONS
    return i, j, k


def _check_answer(
    outline: nn.Module, outputs: int, window: tuple[int, int, int], source: str | Path, channels: int
) -> None:
    """Send one window through the outline: shapes only, so it costs milliseconds at any size."""
    import torch

    try:
        with torch.no_grad(), torch.device("meta"):
            answer = first_output(outline(torch.zeros((1, channels, *window), device="meta")))
    except Exception as error:  # any failing line of any network means the same here
        raise InputError(
            f"{source}: the network cannot take a window of {list(window)} voxels: {_first_line(error)}"
        ) from None
    if answer.shape[1] != outputs:
        raise InputError(
            f"{source}: {outputs} labels, but the network answers {answer.shape[1]} classes; "
            "give one name per class, background first (--labels)"
        )
    if tuple(answer.shape) != (1, outputs, *window):
        raise InputError(
            f"{source}: the network answers {list(answer.shape[2:])} voxels for a window of {list(window)}; "
            "only networks that answer voxel by voxel can be explained"
        )


def first_output(output: Any) -> torch.Tensor:
    """Return the logits of a network that may also answer deep-supervision outputs after them."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _check_computed(name: str, tensor: torch.Tensor, state: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Refuse a position table that is not the network's own: it could point beyond the table of biases."""
    import torch

    if name.endswith("relative_position_index") and name in state and not torch.equal(tensor.long(), state[name]):
        raise InputError(
            f"{source}: the file is damaged or of another network; fetch it again. Details: {name} is not the one of this network"
        )


def _is_computed(name: str) -> bool:
    return name.rpartition(".")[2] in COMPUTED_BUFFERS


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
