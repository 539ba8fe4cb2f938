"""Layer Grad-CAM of the stitched prediction: a layer's feature maps, weighted by the mean slope of F_c in each.

Each window has its own map, brought to the window's size; maps are blended as the prediction is.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017; for segmentation, Vinogradova et al., 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.errors import Agg2ExpError, InputError, nearest_names
from Agg2ExpLib.methods.base import Context, Method, option, register

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork

# A feature map of fewer voxels along an axis says little about where.
_COARSEST = 4
# Mean slopes of all maps below this share of the mean of |slope| are what rounding leaves of 0.
_NOTHING = 1e-5


@register
@dataclass(frozen=True)
class GradCAM(Method):
    """Layer Grad-CAM; no value is negative. The network must be a torch module, or hold one."""

    id: ClassVar[str] = "gradcam"
    name: ClassVar[str] = "layer Grad-CAM"
    equation: ClassVar[str] = "max(0, sum_k a_k A_k), a_k = mean of dF_c/dA_k"
    summary: ClassVar[str] = "A layer's feature maps, weighted by how much the class's summed logit follows them."
    unit: ClassVar[str] = "logit"

    layer: str | None = option(
        None,
        "layer",
        "Name of a module as torch lists it; by default the last output of the coarsest level whose maps have at least 4 "
        "voxels along each axis.",
        kind=str,
    )

    def passes(self, players: int = 0) -> tuple[int, int]:
        """One forward, one backward."""
        return 1, 1

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the map of each class that is present, blended as the prediction is; the channels share it."""
        import torch

        from Agg2ExpLib.case.objective import output_gradient

        present = [objective for objective in objectives if objective.voxels]
        if not present:
            return
        windows, passes, progress = stitched.windows, context.passes, context.progress
        padded = stitched.padded(stitched.x)
        name, module = find_layer(stitched.network, windows.window, self.layer, padded)
        passes.forward += 1
        total = torch.zeros((len(present), *windows.padded_shape), dtype=torch.float32)
        backward = dict.fromkeys(range(len(present)), 0)
        needed = sorted(set().union(*(objective.windows for objective in present)))
        progress.stage("attributions", len(needed) + sum(len(objective.windows) for objective in present))
        size = stitched.compute.windows_at_once
        for indices in (needed[first : first + size] for first in range(0, len(needed), size)):
            kept: list[torch.Tensor] = []
            handle = module.register_forward_hook(lambda _, __, output, kept=kept: _leaf(output, kept))
            try:
                with torch.enable_grad():
                    logits = stitched.run(stitched.batch(padded, indices))
            finally:
                handle.remove()
            if len(kept) > 1:
                raise InputError(
                    f"layer {name} answers {len(kept)} times for each window (folds or mirrored copies), and Grad-CAM looks "
                    "at one answer; choose one fold with --folds and --mirroring off, or another --method"
                )
            passes.forward += len(indices)
            progress.advance(len(indices), f"layer {name}")
            active = [c for c, objective in enumerate(present) if not set(objective.windows).isdisjoint(indices)]
            for turn, column in enumerate(active):
                objective = present[column]
                start = torch.stack([output_gradient(stitched, objective, index) for index in indices])
                target = logits[:, objective.channel]
                (slope,) = torch.autograd.grad(
                    target, kept[-1], start.to(target.dtype), retain_graph=turn + 1 < len(active), allow_unused=True
                )
                if slope is not None:
                    _refuse_without_means(slope, name)
                maps = _maps(kept[-1], slope, windows.window)
                for index, one in zip(indices, maps, strict=True):
                    total[(column, *windows.slices(index))] += (one * stitched.weight).float().cpu()
                backward[column] += len(indices)
                passes.backward += len(indices)
                progress.advance(len(set(objective.windows).intersection(indices)))
        for column, objective in enumerate(present):
            yield _finish(stitched, objective, total[column], backward[column])


def _leaf(output: Any, kept: list[torch.Tensor]) -> Any:
    """Cut the graph at the layer: what comes before it needs no gradient. The copy may be changed in place."""
    leaf = output.detach().requires_grad_(True)
    kept.append(leaf)
    return leaf.clone()


def _refuse_without_means(slope: torch.Tensor, layer: str) -> None:
    """Refuse a layer whose maps have weights of 0: a normalisation of each map that follows takes its mean away.

    What is left is rounding, which other numbers of the same network would have another way round.
    """
    means = slope.float().mean(dim=(2, 3, 4)).abs().amax(dim=1)
    sizes = slope.float().abs().mean(dim=(1, 2, 3, 4))
    if bool((sizes > 0).any()) and bool((means <= _NOTHING * sizes).all()):
        raise InputError(
            f"Grad-CAM weighs the maps of layer {layer} by their mean slopes, which are all 0: instance normalisation follows, "
            "which takes away each map's mean; give --layer a module behind the normalisation, such as the whole block, or "
            "leave --layer out"
        )


def _maps(features: torch.Tensor, slope: torch.Tensor | None, window: Sequence[int]) -> torch.Tensor:
    """Return one map per window of the batch, of the window's size."""
    import torch

    if slope is None:
        return torch.zeros((len(features), *window), device=features.device)
    mean = slope.float().mean(dim=(2, 3, 4), keepdim=True)
    coarse = torch.relu((mean * features.detach().float()).sum(dim=1, keepdim=True))
    return torch.nn.functional.interpolate(coarse, size=tuple(window), mode="trilinear")[:, 0]


def _finish(stitched: StitchedNetwork, objective: Objective, total: torch.Tensor, backward: int) -> Attribution:
    import numpy as np

    windows = stitched.windows
    values = windows.unpad(total / windows.total_weight.float()).numpy()
    if not np.isfinite(values).all():
        raise Agg2ExpError(
            f"the attribution of {stitched.name(objective.class_index)} has values that are not numbers; "
            "try --precision float32"
        )
    i, j, k = (slice(0, size) for size in values.shape)
    channels = np.broadcast_to(values / stitched.channels, (stitched.channels, *values.shape))
    return Attribution(
        objective.class_index, (i, j, k), channels, len(objective.windows), backward, objective.value, math.nan
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
    import torch

    root = getattr(network, "network", network)
    if not isinstance(root, torch.nn.Module):
        raise InputError("Grad-CAM needs a network made of torch modules; use another --method")
    modules = {name: module for name, module in root.named_modules() if name}
    if layer is not None and layer not in modules:
        raise InputError(f"the network has no layer {layer!r}: {nearest_names(layer, modules)}")
    seen: list[tuple[str, tuple[int, ...]]] = []
    if layer is None and not any(isinstance(module, torch.nn.Conv3d) for module in modules.values()):
        raise InputError("the network has no convolution for Grad-CAM to look at; use another --method")
    # Not only convolutions: what instance normalisation follows has mean slopes of 0.
    watched = {layer: modules[layer]} if layer is not None else modules
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: seen.append((name, tuple(getattr(out, "shape", ()))))
        )
        for name, module in watched.items()
    ]
    try:
        with torch.no_grad():
            network(torch.zeros((1, len(like), *window), dtype=like.dtype, device=like.device))
    finally:
        for handle in handles:
            handle.remove()
    maps = [(name, shape) for name, shape in seen if len(shape) == 5]
    if layer is not None and not maps:
        raise InputError(f"layer {layer!r} does not answer feature maps; name a convolution, or leave --layer out")
    if not maps:
        raise InputError("the network has no feature maps for Grad-CAM to look at; use another --method")
    fine = [(name, shape) for name, shape in maps if min(shape[2:]) >= min(_COARSEST, *window)] or maps
    smallest = min(math.prod(shape[2:]) for _, shape in fine)
    name = [name for name, shape in fine if math.prod(shape[2:]) == smallest][-1]
    return name, modules[name]
