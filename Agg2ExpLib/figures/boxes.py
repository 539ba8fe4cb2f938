"""Box plots over cases, one box a class or region, with the outlying cases named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures.measures import BACKGROUND, Measure, measure_of
from Agg2ExpLib.figures.rows import row_charts
from Agg2ExpLib.figures.style import Theme, colour_of, drawing, ink_on, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME_SIZE = 6.5
_CHART_WIDTH = 5.4
# A row holds a dozen names or two; of thousands of outliers those that lie nearer would only be measured in vain.
_MOST_TRIED = 60


def box_plots(
    values: np.ndarray,
    cases: Sequence[str],
    names: Sequence[str],
    measure: str | Measure = "mass",
    *,
    title: str = "",
    note: str = "",
    axis: str = "",
    arranged: bool = False,
    background: str = "light",
) -> Figure:
    """Draw the distribution over cases of one number per class or region.

    The box holds the middle half, its line is the median, the whiskers reach the last case within 1.5 box lengths; cases
    beyond are dots, with their names where there is room.

    Parameters
    ----------
    values : ndarray, shape (cases, names)
        NaN where a case lacks the class.
    cases : sequence of str
        Names of the cases.
    names : sequence of str
        Identifiers of the boxes.
    measure : str or Measure
        What the numbers are.
    title, note, axis : str
        Heading, a sentence under it, and the label of the value axis (default: the measure's).
    arranged : bool
        Sort the boxes by their medians, largest on top, and give background an axis of its own: it holds most of nearly
        everything, and would squeeze the rest.
    background : str
        ``"light"`` or ``"dark"``.

    Raises
    ------
    InputError
        Shapes and names that do not fit, or nothing to draw.
    """
    chosen = measure_of(measure)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (len(cases), len(names)) or not numbers.size:
        raise InputError(f"values of shape {numbers.shape} do not fit {len(cases)} cases and {len(names)} boxes")
    if np.isinf(numbers).any():
        raise InputError("a value of a case is infinite, so the table is damaged; repeat the explanation")
    sentences = [
        chosen.meaning,
        f"Box: middle half of {len(cases)} cases, line: median, whiskers: last case within 1.5 box lengths, dots: "
        f"cases beyond, named where there is room.",
        note,
    ]
    order, apart = list(range(len(names))), -1
    if arranged:
        known = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else -1.0 for column in numbers.T]
        order.sort(key=lambda index: -known[index])
        if BACKGROUND in names and len(names) > 1:
            apart = names.index(BACKGROUND)
            order.remove(apart)
    shown = [names[index] for index in order]
    with drawing(background) as theme:

        def draw(axes: Axes, first: int, last: int) -> None:
            # Where names of outliers fit depends on the scale of the axis.
            _set_axis(axes, _limits(numbers[:, order], chosen), chosen, theme)
            _draw_boxes(axes, numbers[:, order[first:last]], cases, shown[first:last], theme)

        def draw_apart(axes: Axes) -> None:
            _set_axis(axes, _limits(numbers[:, [apart]], chosen), chosen, theme)
            _draw_boxes(axes, numbers[:, [apart]], cases, [BACKGROUND], theme)

        return row_charts(shown, (title or f"Over {len(cases)} cases: {chosen.title}", sentences), theme, draw,
                          axis=axis or chosen.axis, chart_width=_CHART_WIDTH, row=0.26,
                          apart=None if apart < 0 else (BACKGROUND, draw_apart))  # fmt: skip


def _limits(numbers: np.ndarray, measure: Measure) -> tuple[float, float]:
    finite = numbers[np.isfinite(numbers)]
    if not measure.ratio:
        most = max(float(finite.max(initial=0.0)), 0.01)
        # Where all values are high, an axis from 0 on would be mostly empty.
        least = float(finite.min(initial=most))
        first = math.floor(20 * least) / 20 if least > 0.5 * most else 0.0
        return first, first + max(most - first, 0.01) * 1.04
    positive = finite[finite > 0]
    if not positive.size:
        return 0.5, 2.0
    return min(0.5, float(positive.min()) / 1.2), max(2.0, float(positive.max()) * 1.2)


def _set_axis(axes: Axes, limits: tuple[float, float], measure: Measure, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if measure.ratio:
        axes.set_xscale("log", base=2)
        axes.set_xlim(*limits)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=9))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"))
        axes.axvline(1.0, linewidth=0.8, color=theme.faint, zorder=0)
        return
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{100 * tick:g}"))


def box_statistics(values: np.ndarray) -> dict[str, Any]:
    """Return quartiles, whiskers and the indices of outlying cases of one column (NaN left out).

    Examples
    --------
    >>> found = box_statistics(np.array([1.0, 2.0, 3.0, 4.0, 50.0, np.nan]))
    >>> found["med"], found["whishi"], found["outliers"].tolist()
    (3.0, 4.0, [4])
    """
    known = np.flatnonzero(np.isfinite(values))
    q1, median, q3 = (float(part) for part in np.percentile(values[known], (25, 50, 75)))
    reach = 1.5 * (q3 - q1)
    inside = known[(values[known] >= q1 - reach) & (values[known] <= q3 + reach)]
    low, high = float(values[inside].min()), float(values[inside].max())
    outliers = known[(values[known] < q1 - reach) | (values[known] > q3 + reach)]
    return {"q1": q1, "med": median, "q3": q3, "whislo": low, "whishi": high, "outliers": outliers}


def _draw_boxes(axes: Axes, values: np.ndarray, cases: Sequence[str], names: Sequence[str], theme: Theme) -> None:
    for row, name in enumerate(names):
        column = values[:, row]
        if not np.isfinite(column).any():
            axes.text(0.01, row, "absent from every case", size=7, va="center", color=theme.faint,
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        found = box_statistics(column)
        outliers = found.pop("outliers")
        colour = colour_of(name)
        _draw_box(axes, found, row, colour, theme)
        if len(outliers):
            axes.plot(column[outliers], np.full(len(outliers), row), linestyle="", marker="o", markersize=3.2,
                      markerfacecolor=colour, markeredgecolor=theme.ink, markeredgewidth=0.5)  # fmt: skip
            _name_outliers(axes, column, found, outliers, cases, row)


def _draw_box(axes: Axes, found: dict[str, Any], row: int, colour: Any, theme: Theme) -> None:
    """Draw box, median and whiskers: what Axes.bxp does, in a tenth of its time."""
    from matplotlib.patches import Polygon

    low, high, half = found["q1"], found["q3"], 0.31
    corners = [(low, row - half), (high, row - half), (high, row + half), (low, row + half)]
    axes.add_patch(Polygon(corners, facecolor=colour, edgecolor=theme.ink, linewidth=0.6, zorder=2))
    across = [found["whislo"], low, np.nan, high, found["whishi"]]
    ends = [found["whislo"]] * 2 + [np.nan] + [found["whishi"]] * 2
    caps = [row - half / 2, row + half / 2, np.nan, row - half / 2, row + half / 2]
    axes.plot([*across, np.nan, *ends], [row] * 5 + [np.nan, *caps], color=theme.ink, linewidth=0.7, zorder=2)
    axes.plot([found["med"]] * 2, [row - half, row + half], color=ink_on(colour), linewidth=1.4, zorder=3,
              solid_capstyle="butt")  # fmt: skip


def _name_outliers(
    axes: Axes, column: np.ndarray, found: dict[str, Any], outliers: np.ndarray, cases: Sequence[str], row: int
) -> None:
    """Name outliers from the farthest inwards, under their dots, where the name touches neither box nor name."""
    dpi = axes.figure.dpi
    left, right = (float(edge) / dpi for edge in axes.transAxes.transform([(0, 0), (1, 0)])[:, 0])

    def place(value: float) -> float:
        return float(axes.transData.transform((value, row))[0]) / dpi

    taken = [(place(found["q1"]), place(found["q3"]))]
    farthest = sorted(outliers, key=lambda case: -abs(column[case] - found["med"]))
    for index in farthest[:_MOST_TRIED]:
        text = _cut(cases[index])
        half = text_width(text, _NAME_SIZE) / 2 + 0.03
        spot = place(column[index])
        centre = min(max(spot, left + half), right + 0.2 - half)
        if any(centre - half < end and start < centre + half for start, end in taken):
            continue
        taken.append((centre - half, centre + half))
        axes.annotate(text, (float(column[index]), row), (72 * (centre - spot), -6.0), textcoords="offset points",
                      size=_NAME_SIZE, ha="center", va="center", gid=f"outlier {index}", annotation_clip=False)  # fmt: skip


def _cut(case: str) -> str:
    return case if text_width(case, _NAME_SIZE) < 1.2 else case[:14] + "…"
