"""Vanilla gradient: how much F_c changes with each voxel.

References
----------
Simonyan et al., Deep Inside Convolutional Networks, 2013, https://arxiv.org/abs/1312.6034; equation 3 of the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.methods.base import Context, Method, register

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork


@register
@dataclass(frozen=True)
class Gradient(Method):
    """Vanilla gradient (equation 3)."""

    id: ClassVar[str] = "gradient"
    name: ClassVar[str] = "vanilla gradient"
    equation: ClassVar[str] = "(3) VG_c = dF_c/dx"
    summary: ClassVar[str] = "How much the class's summed logit changes with each voxel: one pass, noisy."

    def passes(self, players: int = 0) -> tuple[int, int]:
        """One forward, one backward."""
        return 1, 1

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the gradient of each class that is present."""
        from Agg2ExpLib.methods.mean_gradients import Points, mean_gradients

        yield from mean_gradients(stitched, objectives, Points(1), context)
