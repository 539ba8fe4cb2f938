"""3D convolutions on oneDNN's kernel, whatever the batch: on a processor torch takes a slow one for small batches.

Torch sends a 3D convolution of one image to an im2col kernel, for which oneDNN is 3 to 10 times as fast. Within
:class:`FastConvolutions` the network's calls of ``conv3d`` go to oneDNN directly, and so do their gradients: of a convolution of
stride 1 the gradient is itself a convolution, with the kernel flipped. Neither the network nor training is touched; what does not
qualify takes torch's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

Triple = tuple[int, int, int]
_ONE: Triple = (1, 1, 1)
# OneDNN computes as many as eight channels at a time, wanted or not; the gradient in a CT has one. From few channels, or in a small
# image, it is the faster one all the same.
_FEW_CHANNELS, _FEW_TAPS = 1, 27
_FROM_CHANNELS, _FROM_VOXELS = 8, 24**3


class FastConvolutions(TorchFunctionMode):
    """A context in which convolutions of float32 images on the processor, whose weights are fixed, run on oneDNN.

    Results agree with torch's to rounding; first and second derivatives and forward-mode differentiation are those of the
    convolution. Elsewhere (a GPU, other types, strides, groups, weights in training, a build without oneDNN) nothing changes.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take calls of ``conv3d`` that qualify; pass everything else on."""
        kwargs = kwargs or {}
        if func is torch.conv3d:
            found = _convolve(*args, **kwargs)
            if found is not None:
                return found
        return func(*args, **kwargs)


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> torch.Tensor | None:
    """Return the convolution, or ``None`` where torch's own way is to be taken."""
    fixed = not weight.requires_grad and (bias is None or not bias.requires_grad)
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.ndim == 5 and x.numel() > 0
    if not (fixed and plain and groups == 1 and torch.backends.mkldnn.is_available()) or isinstance(padding, str):
        return None
    if torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled:
        return None
    size, apart, around = (_triple(weight.shape[2:]), _triple(dilation), _triple(padding))
    # Padding beyond the kernel's reach has no convolution for a gradient.
    if _triple(stride) != _ONE or any(p > d * (k - 1) for k, d, p in zip(size, apart, around, strict=True)):
        return None
    found: torch.Tensor = _Convolution.apply(x, weight, bias, around, apart)
    return found


def _triple(value: int | Sequence[int]) -> Triple:
    if isinstance(value, int):
        return value, value, value
    i, j, k = value if len(value) == 3 else tuple(value) * 3
    return i, j, k


class _Convolution(torch.autograd.Function):
    """A convolution of stride 1 with a fixed kernel: linear in the image."""

    @staticmethod
    def forward(
        x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: Triple, dilation: Triple
    ) -> torch.Tensor:
        """Let oneDNN compute it, or the matrix product where it is one or nearly one."""
        if weight.shape[2:] == _ONE and padding == (0, 0, 0):
            found = torch.matmul(weight[:, :, 0, 0, 0], x.flatten(2)).unflatten(2, x.shape[2:])
        elif _to_few(x, weight) and dilation == _ONE:
            found = _to_few_channels(x, weight, padding)
        else:
            return torch.mkldnn_convolution(x.contiguous(), weight, bias, padding, _ONE, dilation, 1)
        return found if bias is None else found.add_(bias[:, None, None, None])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Keep the kernel; the image itself is not needed."""
        _, ctx.weight, _, ctx.padding, ctx.dilation = inputs
        ctx.flipped = None

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """Convolve the gradient with the flipped kernel."""
        if ctx.flipped is None:
            ctx.flipped = ctx.weight.flip(2, 3, 4).transpose(0, 1).contiguous()
        size = ctx.weight.shape[2:]
        i, j, k = (d * (n - 1) - p for n, d, p in zip(size, ctx.dilation, ctx.padding, strict=True))
        return _Convolution.apply(gradient, ctx.flipped, None, (i, j, k), ctx.dilation), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """Convolve the tangent: the bias does not change."""
        found: torch.Tensor = _Convolution.apply(tangent, ctx.weight, None, ctx.padding, ctx.dilation)
        return found


def _to_few(x: torch.Tensor, weight: torch.Tensor) -> bool:
    few = len(weight) <= _FEW_CHANNELS and weight[0, 0].numel() <= _FEW_TAPS
    return few and weight.shape[1] >= _FROM_CHANNELS and x[0, 0].numel() >= _FROM_VOXELS


def _to_few_channels(x: torch.Tensor, weight: torch.Tensor, padding: Triple) -> torch.Tensor:
    """Return a convolution that answers few channels: one matrix product for all taps of the kernel, then shifted sums."""
    size = _triple(weight.shape[2:])
    i, j, k = (n + 2 * p - s + 1 for n, p, s in zip(x.shape[2:], padding, size, strict=True))
    channels = len(weight)
    # Rows: channels, then taps.
    taps = weight.permute(0, 2, 3, 4, 1).reshape(-1, weight.shape[1])
    out = x.new_zeros((len(x), channels, i, j, k))
    for image, sums in zip(x, out, strict=True):
        parts = torch.matmul(taps, image.flatten(1)).unflatten(1, image.shape[1:]).unflatten(0, (channels, -1))
        for number, tap in enumerate(np.ndindex(*size)):
            # Of the voxels that this tap reaches, those within the image.
            there, here = [], []
            for step, around, n, m in zip(tap, padding, x.shape[2:], (i, j, k), strict=True):
                first, last = max(around - step, 0), min(n + around - step, m)
                here.append(slice(first, last))
                there.append(slice(first + step - around, last + step - around))
            sums[(slice(None), *here)] += parts[(slice(None), number, *there)]
    return out
