"""From values to colours: one scale for shares, one for ratios, and the bar that explains either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.figures.measures import Measure
from Agg2ExpLib.figures.style import Theme, add_axes, diverging_map, sequential_map

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

# A ratio beyond these tells no more by its colour; the number beside it still does.
_MOST_DIVERGING = 64.0
_SHARE_TICKS = (0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Scale:
    """Colours of the values of a measure; ``beyond`` tells that some lie outside and have the colour of the end."""

    measure: Measure
    norm: Normalize
    colours: Colormap
    beyond: bool = False

    def colour(self, value: float) -> Any:
        """Return the colour of one value."""
        return self.colours(float(self.norm(value)))

    def strength(self, value: float) -> float:
        """Return 0 to 1: where a value lies on the scale."""
        return float(np.clip(float(self.norm(value)), 0.0, 1.0))


def scale_of(values: np.ndarray, measure: Measure, theme: Theme) -> Scale:
    """Return a scale that holds all values: square root for shares, logarithm around 1 for ratios."""
    from matplotlib.colors import LogNorm, PowerNorm

    finite = values[np.isfinite(values)]
    if measure.ratio:
        positive = finite[finite > 0]
        most = float(np.exp(np.abs(np.log(positive)).max())) if positive.size else 2.0
        most = min(max(most, 2.0), _MOST_DIVERGING)
        # exp(log(x)) may miss x by a rounding.
        edge = most * (1 + 1e-9)
        beyond = bool(((finite > edge) | (finite < 1 / edge)).any())
        return Scale(measure, LogNorm(1 / most, most, clip=True), diverging_map(theme), beyond)
    most = max(float(finite.max()), 0.01) if finite.size else 1.0
    return Scale(measure, PowerNorm(0.5, 0.0, most, clip=True), sequential_map(theme))


def scale_bar(figure: Figure, place: tuple[float, float, float, float], scale: Scale) -> None:
    """Draw the colour bar of a scale, lying, at a place in inches (left, bottom, width, height)."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import NullLocator

    axes = add_axes(figure, *place)
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), cax=axes, orientation="horizontal",
                          extend="both" if scale.beyond else "neither")  # fmt: skip
    ticks = ratio_ticks(scale.norm) if scale.measure.ratio else _share_ticks(float(scale.norm.vmax or 1.0))
    bar.set_ticks(ticks, labels=[_tick_text(scale, tick) for tick in ticks])
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=8, length=2.5, width=0.6)
    bar.outline.set_linewidth(0.5)
    bar.set_label(scale.measure.axis, size=8.5, labelpad=3)


def ratio_ticks(norm: Normalize) -> list[float]:
    """Return powers of 2 or 4 or 8 within a ratio's scale, 1 among them."""
    reach = int(np.log2(float(norm.vmax or 2.0)) + 1e-9)
    step = max(1, -(-reach // 3))
    return [2.0**power for power in range(-(reach // step) * step, reach + 1, step)]


def _share_ticks(most: float) -> list[float]:
    chosen: list[float] = []
    for tick in (*[tick for tick in _SHARE_TICKS if tick < most], most):
        # Ticks that would touch their left neighbour on a square-root scale are left out; the last one stays.
        while tick == most and len(chosen) > 1 and np.sqrt(tick / most) - np.sqrt(chosen[-1] / most) < 0.11:
            chosen.pop()
        if not chosen or np.sqrt(tick / most) - np.sqrt(chosen[-1] / most) >= 0.11:
            chosen.append(tick)
    return chosen


def _tick_text(scale: Scale, tick: float) -> str:
    if scale.measure.ratio:
        return f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
    return f"{100 * tick:.2g}" if tick < 0.995 else "100"
