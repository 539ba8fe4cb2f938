"""One network over the windows of one scan: everything that a segmentation or an attribution method works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch

from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.device import Compute, dtype_of, is_out_of_memory, running
from Agg2ExpLib.errors import InputError

Answer = TypeVar("Answer")
Network = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class StitchedNetwork:
    """A network stitched over a scan.

    Attributes
    ----------
    network : callable
        Logits [B, K, ...] of windows [B, C, ...]; on the device and of the precision's type already, its parameters without
        gradients.
    x : Tensor, shape (C, i, j, k)
        The scan in network units; (i, j, k) is taken as one channel.
    windows : Windows
        Over that scan.
    removed : Tensor, shape (C,)
        What "nothing is there" is in network units. Not 0 in general, so it is always said.
    compute : Compute
        Device, precision, batch size and memory.
    names : sequence of str
        Class names, for messages.
    """

    network: Network
    x: torch.Tensor
    windows: Windows
    removed: torch.Tensor
    compute: Compute = field(default_factory=lambda: Compute(device="cpu"))
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        x = self.x if self.x.ndim == 4 else self.x[None]
        if tuple(x.shape[1:]) != self.windows.volume_shape:
            raise InputError(f"a scan of shape {tuple(x.shape)} does not fit windows over {self.windows.volume_shape}")
        removed = torch.as_tensor(self.removed).reshape(-1).to(device=self.device, dtype=self.dtype)
        object.__setattr__(self, "x", x.to(device=self.device, dtype=self.dtype))
        object.__setattr__(self, "removed", removed.expand(len(x)))

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return torch.device(self.compute.device)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Type of inputs and sums."""
        return dtype_of(self.compute.precision, self.device)

    @property
    def channels(self) -> int:
        """Number of channels of the scan."""
        return len(self.x)

    @property
    def fill(self) -> torch.Tensor:
        """What surrounds the scan in windows that reach beyond it, shape (C,)."""
        padding = self.windows.padding
        if padding is None or padding == "edge":
            return self.removed
        return torch.full_like(self.removed, float(padding))

    @property
    def pads_with_nothing(self) -> bool:
        """Whether a scan of nothing gives windows of nothing: the padding is what stands for nothing, or there is none."""
        alike = self.windows.padding in (None, "edge") or bool((self.fill == self.removed).all())
        return alike or self.windows.padded_shape == self.windows.volume_shape

    @cached_property
    def weight(self) -> torch.Tensor:
        """Blending weight within a window, on the device."""
        weight = self.windows.weight
        return (weight.double() if self.dtype == torch.float64 else weight).to(self.device)

    def of(self, x: torch.Tensor) -> StitchedNetwork:
        """Return the same network over another scan of the same shape."""
        return replace(self, x=x)

    def padded(self, x: torch.Tensor) -> torch.Tensor:
        """Bring a volume (C, i, j, k) to the device, padded to the windows."""
        x = x if x.ndim == 4 else x[None]
        return self.windows.pad(x.to(device=self.device, dtype=self.dtype), self.fill)

    def nothing(self) -> torch.Tensor:
        """Return a scan in which nothing is there, shape (C, i, j, k)."""
        return self.removed[:, None, None, None].expand_as(self.x)

    def batch(self, padded: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
        """Cut windows out of a padded volume, shape (B, C, window)."""
        return torch.stack([padded[(slice(None), *self.windows.slices(index))] for index in indices])

    @cached_property
    def _at_once(self) -> list[int]:
        """The windows that a pass may take, as far as is known of the memory."""
        return [self.compute.windows_at_once]

    def in_batches(
        self, items: Sequence[int], run: Callable[[list[int]], Answer]
    ) -> Iterator[tuple[list[int], Answer]]:
        """Yield items in batches, each with ``run`` of it; where memory is full, smaller batches are taken from then on.

        A batch that did not fit is repeated in parts, so ``run`` must keep nothing; what was yielded before it is not lost.
        """
        first = 0
        while first < len(items):
            part = list(items[first : first + self._at_once[0]])
            try:
                found = run(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                self._at_once[0] = len(part) // 2
            else:
                first += len(part)
                yield part, found
                continue
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the network's logits; whether gradients are recorded is the caller's choice."""
        with running(self.compute.precision, self.device):
            return self.network(batch)

    def name(self, class_index: int) -> str:
        """Return a class's name for messages."""
        return self.names[class_index] if class_index < len(self.names) else f"class {class_index}"
