"""nnU-Net's U-Nets on plain torch, layer for layer and name for name, so that its weights fit; folds and mirrored copies.

PlainConvUNet and ResidualEncoderUNet as the package dynamic-network-architectures (0.4) builds them from ``arch_kwargs``.
Classes are looked up in the tables below and nowhere else: what plans name is never imported. Activations do not work in
place, which changes no number and lets a layer's output be looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.interface import Triple

_NORMS: dict[str, type[nn.Module]] = {"InstanceNorm3d": nn.InstanceNorm3d, "BatchNorm3d": nn.BatchNorm3d}
_ACTIVATIONS: dict[str, type[nn.Module]] = {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU}
_MODULES = "dynamic_network_architectures.architectures."
_SHARED = {"n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias",
           "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "deep_supervision"}  # fmt: skip
_OWN = {
    "PlainConvUNet": {"n_conv_per_stage", "nonlin_first"},
    "ResidualEncoderUNet": {"n_blocks_per_stage", "block", "bottleneck_channels", "stem_channels"},
}


@dataclass(frozen=True)
class _Style:
    """What all convolutions of a network share."""

    bias: bool
    norm: type[nn.Module] | None
    norm_arguments: Mapping[str, Any]
    activation: type[nn.Module] | None
    activation_arguments: Mapping[str, Any]
    activation_first: bool


class _Convolution(nn.Module):
    """Convolution, normalisation, activation. Dropout does nothing when a network answers, and is left out."""

    def __init__(
        self,
        style: _Style,
        channels: tuple[int, int],
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        *,
        bias: bool | None = None,
        active: bool = True,
    ) -> None:
        super().__init__()
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2, (kernel[2] - 1) // 2)
        self.conv = nn.Conv3d(*channels, kernel, stride, padding, bias=style.bias if bias is None else bias)
        self.norm = style.norm(channels[1], **style.norm_arguments) if style.norm else nn.Identity()
        self.nonlin = style.activation(**style.activation_arguments) if style.activation and active else nn.Identity()
        self.activation_first = style.activation_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the features."""
        x = self.conv(x)
        found: torch.Tensor = self.norm(self.nonlin(x)) if self.activation_first else self.nonlin(self.norm(x))
        return found


class _Convolutions(nn.Module):
    """Convolutions one after another; the first may stride."""

    def __init__(
        self, style: _Style, count: int, channels: tuple[int, int], kernel: Triple, stride: Triple = (1, 1, 1)
    ) -> None:
        super().__init__()
        first = _Convolution(style, channels, kernel, stride)
        more = [_Convolution(style, (channels[1], channels[1]), kernel) for _ in range(count - 1)]
        self.convs = nn.Sequential(first, *more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the features."""
        found: torch.Tensor = self.convs(x)
        return found


class _Block(nn.Module):
    """A residual block (ResNet-D): where it strides, the shortcut is pooled by its mean."""

    def __init__(self, style: _Style, channels: tuple[int, int], kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.conv1 = _Convolution(style, channels, kernel, stride)
        self.conv2 = _Convolution(style, (channels[1], channels[1]), kernel, active=False)
        self.nonlin2 = style.activation(**style.activation_arguments) if style.activation else nn.Identity()
        skip: list[nn.Module] = [nn.AvgPool3d(stride, stride)] if stride != (1, 1, 1) else []
        if channels[0] != channels[1]:
            skip.append(_Convolution(style, channels, (1, 1, 1), bias=False, active=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the features."""
        found: torch.Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return found


class _Blocks(nn.Module):
    def __init__(self, style: _Style, count: int, channels: tuple[int, int], kernel: Triple, stride: Triple) -> None:
        super().__init__()
        more = [_Block(style, (channels[1], channels[1]), kernel, (1, 1, 1)) for _ in range(count - 1)]
        self.blocks = nn.Sequential(_Block(style, channels, kernel, stride), *more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the features."""
        found: torch.Tensor = self.blocks(x)
        return found


class _Encoder(nn.Module):
    def __init__(self, stem: nn.Module | None, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Answer the features of every level, the finest first."""
        if hasattr(self, "stem"):
            x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    def __init__(self, stages: Sequence[nn.Module], ups: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages, self.transpconvs = nn.ModuleList(stages), nn.ModuleList(ups)
        # Only the last one answers; the others were for the training, and have weights in every checkpoint.
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Answer the logits at full resolution."""
        x = levels[-1]
        for stage, up, level in zip(self.stages, self.transpconvs, levels[-2::-1], strict=True):
            x = stage(torch.cat((up(x), level), 1))
        found: torch.Tensor = self.seg_layers[-1](x)
        return found


class UNet(nn.Module):
    """One network of nnU-Net: logits [B, K, D, H, W] of windows [B, C, D, H, W]."""

    def __init__(self, encoder: _Encoder, decoder: _Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the logits."""
        found: torch.Tensor = self.decoder(self.encoder(x))
        return found


class MirroredFolds(nn.Module):
    """The mean of the logits of all folds and of all mirrored copies, each turned back.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        One a fold.
    mirror_axes : tuple of int
        Axes 0, 1, 2 of a window; every subset of them is one copy.
    """

    def __init__(self, networks: Sequence[nn.Module], mirror_axes: Sequence[int] = ()) -> None:
        super().__init__()
        self.folds = nn.ModuleList(networks)
        self.copies = [
            [axis + 2 for axis in axes]
            for count in range(len(mirror_axes) + 1)
            for axes in itertools.combinations(mirror_axes, count)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the mean logits."""
        from torch.utils.checkpoint import checkpoint

        several = len(self.folds) * len(self.copies) > 1
        total: torch.Tensor | None = None
        for network in self.folds:
            for axes in self.copies:
                turned = x.flip(axes) if axes else x
                # Backward, one copy's features at a time are in memory: each is computed again when its turn comes.
                again = several and torch.is_grad_enabled() and x.requires_grad
                logits = checkpoint(network, turned, use_reentrant=False) if again else network(turned)
                logits = logits.flip(axes) if axes else logits
                total = logits if total is None else total + logits
        assert total is not None
        return total / (len(self.folds) * len(self.copies))


class Normalised(nn.Module):
    """A network that clips and scales its one channel itself, as CTNormalization does.

    Parameters
    ----------
    network : torch.nn.Module
        Takes what is normalised.
    limits : tuple of float
        HU, beyond which voxels are clipped and have no gradient.
    mean, std : float
        Subtracted, and divided by.
    """

    def __init__(self, network: nn.Module, limits: tuple[float, float], mean: float, std: float) -> None:
        super().__init__()
        self.network, self.limits, self.mean, self.std = network, limits, mean, std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Answer the logits of HU."""
        found: torch.Tensor = self.network((x.clamp(*self.limits) - self.mean) / self.std)
        return found


def build_unet(architecture: Mapping[str, Any], inputs: int, outputs: int, batch_norm: bool, source: Path) -> UNet:
    """Build the network that plans describe, without weights and without memory for them (on torch's meta device).

    Parameters
    ----------
    architecture : mapping
        ``network_class_name`` and ``arch_kwargs``.
    inputs, outputs : int
        Channels of the scan, and logits.
    batch_norm : bool
        As nnUNetTrainerBN does: batch normalisation, whatever the plans say.
    source : Path
        Named in errors.

    Raises
    ------
    InputError
        Another class or argument, by name.
    """
    try:
        with torch.device("meta"):
            return _build(architecture, inputs, outputs, batch_norm)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        # torch adds its own stack to some.
        first = next(iter(str(error).splitlines()), "")
        raise InputError(
            f"{source}: describes a network that cannot be built ({type(error).__name__}: {first[:200]}); copy the folder again"
        ) from None


def _build(architecture: Mapping[str, Any], inputs: int, outputs: int, batch_norm: bool) -> UNet:
    named = str(architecture["network_class_name"])
    kind = named.rpartition(".")[2]
    given = dict(architecture["arch_kwargs"])
    if kind not in _OWN or not named.startswith(_MODULES):
        raise InputError(
            f"the network class {named} is not one that is rebuilt here ({', '.join(_OWN)}), so the model is not read"
        )
    unknown = sorted(set(given) - _SHARED - _OWN[kind])
    block = str(given.get("block") or "BasicBlockD").rpartition(".")[2]
    if unknown or block != "BasicBlockD" or given.get("bottleneck_channels"):
        what = f"argument {unknown[0]}" if unknown else f"block {block}"
        raise InputError(f"the {what} of {kind} is not rebuilt here, so the model is not read")
    if not str(given["conv_op"]).endswith("Conv3d"):
        raise InputError(f"the convolution {given['conv_op']} is not 3D, so the model is not read")
    style, stages = _style(given, batch_norm), int(given["n_stages"])
    features = [int(one) for one in _each(given["features_per_stage"], stages)]
    kernels = [_triple(one) for one in _each(given["kernel_sizes"], stages)]
    strides = [_triple(one) for one in _each(given["strides"], stages)]
    depths = _each(given["n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"], stages)
    stem, before = None, inputs
    levels: list[nn.Module] = []
    if kind == "ResidualEncoderUNet":
        before = int(given.get("stem_channels") or features[0])
        stem = _Convolutions(style, 1, (inputs, before), kernels[0])
    for after, kernel, stride, depth in zip(features, kernels, strides, depths, strict=True):
        if kind == "PlainConvUNet":
            levels.append(nn.Sequential(_Convolutions(style, int(depth), (before, after), kernel, stride)))
        else:
            levels.append(_Blocks(style, int(depth), (before, after), kernel, stride))
        before = after
    return UNet(_Encoder(stem, levels), _decoder(given, style, features, kernels, strides, outputs))


def _decoder(
    given: Mapping[str, Any],
    style: _Style,
    features: Sequence[int],
    kernels: Sequence[Triple],
    strides: Sequence[Triple],
    outputs: int,
) -> _Decoder:
    depths = _each(given["n_conv_per_stage_decoder"], len(features) - 1)
    stages, ups, heads = [], [], []
    for turn, depth in enumerate(depths, start=1):
        below, here, stride = features[-turn], features[-turn - 1], strides[-turn]
        ups.append(nn.ConvTranspose3d(below, here, stride, stride, bias=style.bias))
        stages.append(_Convolutions(style, int(depth), (2 * here, here), kernels[-turn - 1]))
        heads.append(nn.Conv3d(here, outputs, 1, bias=True))
    return _Decoder(stages, ups, heads)


def _style(given: Mapping[str, Any], batch_norm: bool) -> _Style:
    norm, arguments = given.get("norm_op"), dict(given.get("norm_op_kwargs") or {})
    if batch_norm:
        norm, arguments = "BatchNorm3d", {"eps": 1e-5, "affine": True}
    active = dict(given.get("nonlin_kwargs") or {})
    active.pop("inplace", None)
    return _Style(
        bool(given.get("conv_bias", False)),
        _named(norm, _NORMS, "normalisation"),
        arguments,
        _named(given.get("nonlin"), _ACTIVATIONS, "activation"),
        active,
        bool(given.get("nonlin_first", False)),
    )


def _named(name: Any, known: Mapping[str, type[nn.Module]], what: str) -> type[nn.Module] | None:
    if name is None:
        return None
    short = str(name).rpartition(".")[2]
    if short not in known or not str(name).startswith(("torch.nn.", short)):
        raise InputError(
            f"the {what} {name} is not one that is rebuilt here ({', '.join(known)}), so the model is not read"
        )
    return known[short]


def _each(value: Any, count: int) -> list[Any]:
    found = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(found) != count:
        raise InputError(f"{len(found)} entries do not fit the {count} levels of the network")
    return found


def _triple(value: Any) -> Triple:
    i, j, k = (int(one) for one in _each(value, 3))
    return i, j, k
