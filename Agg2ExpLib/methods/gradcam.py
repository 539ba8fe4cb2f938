"""Layer Grad-CAM of the stitched prediction: a layer's feature maps, weighted by the mean slope of F_c in each.

Each window has its own map, brought to the window's size; maps are blended as the prediction is.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017; for segmentation, Vinogradova et al., 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.segmentation import Network, batches
from Agg2ExpLib.case.windows import Slices, Windows
from Agg2ExpLib.device import autocast, dtype_of
from Agg2ExpLib.errors import Agg2ExpError, InputError, nearest_names
from Agg2ExpLib.methods.gradients import Attribution, PassCount, output_gradient
from Agg2ExpLib.progress import Progress

# A feature map of fewer voxels along an axis says little about where.
_COARSEST = 4


def attribute(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    objectives: Sequence[Objective],
    *,
    layer: str | None = None,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    names: Sequence[str] = (),
    progress: Progress | None = None,
    passes: PassCount | None = None,
) -> Iterator[Attribution]:
    """Yield the map of each class that is present; no value is negative.

    Parameters
    ----------
    network, x, windows, objectives, batch_size, device, precision, names, progress, passes
        As :func:`Agg2ExpLib.methods.gradients.attribute`; the network must be a torch module, or hold one.
    layer : str, optional
        Name of a module as torch lists it; ``None`` takes the last convolution of the coarsest level whose maps have at
        least 4 voxels along each axis.

    Raises
    ------
    InputError
        A layer that is not there, or whose output is not feature maps.
    Agg2ExpError
        A map with values that are not numbers.
    """
    device, progress, passes = torch.device(device), progress or Progress(), passes or PassCount()
    dtype = dtype_of(precision, device)
    present = [objective for objective in objectives if objective.voxels]
    if not present:
        return
    padded = windows.pad(x.to(device=device, dtype=dtype))
    weight = (windows.weight.double() if dtype == torch.float64 else windows.weight).to(device)
    name, module = find_layer(network, windows.window, layer, padded)
    passes.forward += 1
    total = torch.zeros((len(present), *windows.padded_shape), dtype=torch.float32)
    backward = dict.fromkeys(range(len(present)), 0)
    needed = sorted(set().union(*(objective.windows for objective in present)))
    progress.stage("attributions", len(needed) + sum(len(objective.windows) for objective in present))
    for indices in batches(needed, batch_size):
        kept: list[torch.Tensor] = []
        handle = module.register_forward_hook(lambda _, __, output, kept=kept: _leaf(output, kept))
        try:
            with torch.enable_grad(), autocast(precision, device):
                logits = network(torch.stack([padded[windows.slices(index)][None] for index in indices]))
        finally:
            handle.remove()
        passes.forward += len(indices)
        progress.advance(len(indices), f"layer {name}")
        active = [c for c, objective in enumerate(present) if not set(objective.windows).isdisjoint(indices)]
        for turn, column in enumerate(active):
            objective = present[column]
            start = torch.stack([output_gradient(windows, weight, objective, index) for index in indices])
            target = logits[:, objective.class_index]
            (slope,) = torch.autograd.grad(
                target, kept[-1], start.to(target.dtype), retain_graph=turn + 1 < len(active), allow_unused=True
            )
            maps = _maps(kept[-1], slope, windows.window)
            for index, one in zip(indices, maps, strict=True):
                total[(column, *windows.slices(index))] += (one * weight).float().cpu()
            used = len(set(objective.windows).intersection(indices))
            backward[column] += len(indices)
            passes.backward += len(indices)
            progress.advance(used)
    for column, objective in enumerate(present):
        yield _finish(windows, objective, total[column], backward[column], names)


def _leaf(output: Any, kept: list[torch.Tensor]) -> Any:
    """Cut the graph at the layer: what comes before it needs no gradient. The copy may be changed in place."""
    leaf = output.detach().requires_grad_(True)
    kept.append(leaf)
    return leaf.clone()


def _maps(features: torch.Tensor, slope: torch.Tensor | None, window: Sequence[int]) -> torch.Tensor:
    """Return one map per window of the batch, of the window's size."""
    if slope is None:
        return torch.zeros((len(features), *window), device=features.device)
    mean = slope.float().mean(dim=(2, 3, 4), keepdim=True)
    coarse = torch.relu((mean * features.detach().float()).sum(dim=1, keepdim=True))
    return torch.nn.functional.interpolate(coarse, size=tuple(window), mode="trilinear")[:, 0]


def _finish(
    windows: Windows, objective: Objective, total: torch.Tensor, backward: int, names: Sequence[str]
) -> Attribution:
    values = windows.unpad(total / windows.total_weight.float()).numpy()
    if not np.isfinite(values).all():
        index = objective.class_index
        name = names[index] if index < len(names) else f"class {index}"
        raise Agg2ExpError(f"the attribution of {name} has values that are not numbers; try --precision float32")
    everywhere: Slices = (slice(0, values.shape[0]), slice(0, values.shape[1]), slice(0, values.shape[2]))
    return Attribution(
        objective.class_index, everywhere, values, len(objective.windows), backward, objective.value, math.nan
    )


def find_layer(
    network: Any, window: Sequence[int], layer: str | None, like: torch.Tensor
) -> tuple[str, torch.nn.Module]:
    """Return the name and the module of the layer to look at.

    Raises
    ------
    InputError
        A network without modules, a layer that is not there, or whose output is not feature maps.
    """
    root = getattr(network, "network", network)
    if not isinstance(root, torch.nn.Module):
        raise InputError("Grad-CAM needs a network made of torch modules; use another --method")
    modules = {name: module for name, module in root.named_modules() if name}
    if layer is not None and layer not in modules:
        raise InputError(f"the network has no layer {layer!r}: {nearest_names(layer, modules)}")
    seen: list[tuple[str, tuple[int, ...]]] = []
    watched = {layer: modules[layer]} if layer is not None else _convolutions(modules)
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: seen.append((name, tuple(getattr(out, "shape", ()))))
        )
        for name, module in watched.items()
    ]
    try:
        with torch.no_grad():
            network(torch.zeros((1, 1, *window), dtype=like.dtype, device=like.device))
    finally:
        for handle in handles:
            handle.remove()
    maps = [(name, shape) for name, shape in seen if len(shape) == 5]
    if layer is not None and not maps:
        raise InputError(f"layer {layer!r} does not answer feature maps; name a convolution, or leave --layer out")
    if not maps:
        raise InputError("the network has no convolution for Grad-CAM to look at; use another --method")
    fine = [(name, shape) for name, shape in maps if min(shape[2:]) >= min(_COARSEST, *window)] or maps
    smallest = min(math.prod(shape[2:]) for _, shape in fine)
    name = [name for name, shape in fine if math.prod(shape[2:]) == smallest][-1]
    return name, modules[name]


def _convolutions(modules: dict[str, torch.nn.Module]) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in modules.items() if isinstance(module, torch.nn.Conv3d)}
