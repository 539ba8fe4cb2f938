"""SmoothGrad: the gradient averaged over noisy copies of the scan.

References
----------
Smilkov et al., SmoothGrad: removing noise by adding noise, 2017, https://arxiv.org/abs/1706.03825; equation 4 of the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.methods.base import Context, Method, option, register, seed_option

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork


@register
@dataclass(frozen=True)
class SmoothGrad(Method):
    """SmoothGrad (equation 4). Noise is drawn for the whole volume, so it depends on neither classes, batches nor device."""

    id: ClassVar[str] = "smoothgrad"
    name: ClassVar[str] = "SmoothGrad"
    equation: ClassVar[str] = "(4) mean of VG_c(x + e), e ~ Normal(0, sigma^2)"
    summary: ClassVar[str] = "Gradient averaged over noisy copies of the scan: steadier, as many passes as samples."

    samples: int = option(20, "samples", "Noisy copies of the scan.", low=1, high=100_000)
    sigma: float = option(
        0.1,
        "noise",
        "Spread of the noise, as a share of each channel's range.",
        unit="of the range",
        low=0.0,
        high=10.0,
    )
    seed: int = seed_option()

    def passes(self, players: int = 0) -> tuple[int, int]:
        """As many forward and backward as samples."""
        return self.samples, self.samples

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the mean gradient of each class that is present."""
        from Agg2ExpLib.methods.mean_gradients import Points, mean_gradients

        points = Points(self.samples, lambda number: (self.noisy(stitched.x, number), 1.0))
        yield from mean_gradients(stitched, objectives, points, context)

    def noisy(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Return a noisy copy of a scan (C, i, j, k), by its number."""
        import torch

        spread = self.sigma * (x.amax(dim=(1, 2, 3), keepdim=True) - x.amin(dim=(1, 2, 3), keepdim=True))
        state = int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(state))
        return x + spread * noise.to(x)
