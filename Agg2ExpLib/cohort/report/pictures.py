"""Pictures that only reports have: means of groups, scatter, calibration, histogram. What the paper has is in ``drawings``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.figures.style import Theme, add_axes, drawing, new_figure, readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from Agg2ExpLib.cohort.judge.calibration import Bin
    from Agg2ExpLib.cohort.judge.statistics import MeanMatrix

_CURVES_ACROSS = 4
_LEAST_SPAN = 10.0  # percent
_INK = "#1f4e79"
#: Okabe and Ito's colours, told apart by the colour-blind too, and a mark of its own for each.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8b6d00")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def group_means(
    means: Mapping[str, MeanMatrix],
    names: Sequence[str],
    title: str,
    background: str = "light",
    legend: str = "group (cases)",
    axis: str = "context: attribution outside of the structure, % (median, 95 % interval)",
) -> Figure:
    """Draw the median (or mean) of one share per class and group, with its interval where there is one.

    Parameters
    ----------
    means : mapping of str to MeanMatrix, each of shape (classes, 1)
        By group.
    names : sequence of str
        Classes.
    title : str
        Heading.
    background : str
        ``"light"`` or ``"dark"``.
    legend : str
        Heading of the legend; empty draws none.
    axis : str
        Label of the value axis.
    """
    with drawing(background) as theme:
        step = 0.8 / len(means)
        figure, axes = sheet(7.5, 1.3 + len(names) * (0.16 + 0.11 * len(means)))
        for row in range(1, len(names), 2):
            axes.axhspan(row - 0.5, row + 0.5, color=theme.absent, alpha=0.25, linewidth=0)
        for number, (group, found) in enumerate(means.items()):
            rows = np.arange(len(names)) + (number - (len(means) - 1) / 2) * step
            reach = np.vstack([found.mean[:, 0] - found.low[:, 0], found.high[:, 0] - found.mean[:, 0]])
            axes.errorbar(100 * found.mean[:, 0], rows, xerr=100 * np.nan_to_num(reach), fmt=MARKS[number % len(MARKS)],
                          color=COLOURS[number % len(COLOURS)], markersize=4, linewidth=1.0, label=group)  # fmt: skip
        axes.set_yticks(range(len(names)), [readable(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        low, high = axes.get_xlim()
        # Differences of a fraction of a percent are not to look like large ones.
        spare = max(_LEAST_SPAN - (high - low), 0.0) / 2
        axes.set_xlim(low - spare, high + spare)
        axes.set_xlabel(axis)
        axes.set_title(title, fontsize=10, loc="left")
        if legend:
            figure.legend(
                loc="outside lower left", ncols=3, fontsize=8, title=legend, title_fontsize=8, alignment="left"
            )
        return figure


def scatter(scores: np.ndarray, dice: np.ndarray, title: str) -> Figure:
    """Draw anomaly score against Dice."""
    with drawing("light"):
        figure, axes = sheet(5.6, 3.6)
        axes.scatter(scores, dice, s=12, alpha=0.6, color=_INK)
        axes.set_xlabel("mean anomaly score (higher is odder)")
        axes.set_ylabel("mean Dice")
        axes.set_title(title, fontsize=10, loc="left")
        return figure


def calibration(curves: Sequence[tuple[str, Sequence[Bin]]]) -> Figure:
    """Draw calibration curves side by side, each with intervals and the numbers of cases of its points, from the left.

    Parameters
    ----------
    curves : sequence of (str, sequence of Bin)
        Heading and points of each.
    """
    with drawing("light") as theme:
        across = min(len(curves), _CURVES_ACROSS)
        down = -(-len(curves) // across)
        # Places are counted out: a layout that is looked for draws everything twice.
        wide, high, left, foot = 2.45, 2.55, 0.75, 0.55
        width, height = left + wide * across, foot + high * down
        figure = new_figure(width, height)
        for number, (title, curve) in enumerate(curves):
            row, column = divmod(number, across)
            axes = add_axes(
                figure, left + column * wide + 0.1, foot + (down - 1 - row) * high + 0.3, wide - 0.6, wide - 0.6
            )
            _curve(axes, curve, theme)
            axes.set_title(textwrap.fill(title, 26), fontsize=9, loc="left")
        figure.supxlabel("Dice predicted from the score (held out)", fontsize=9, y=0.12 / height)
        figure.supylabel("Dice observed (mean, 95 % confidence)", fontsize=9, x=0.12 / width)
        return figure


def _curve(axes: Any, curve: Sequence[Bin], theme: Theme) -> None:
    predicted, observed = [one.predicted for one in curve], [one.observed for one in curve]
    ends = [one.low for one in curve] + [one.high for one in curve]
    seen = np.array([*predicted, *observed, *ends])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    pad = max(0.08 * (high - low), 0.01)
    axes.plot([low - pad, high + pad], [low - pad, high + pad], color=theme.absent, linewidth=1.2, zorder=0)
    reach = np.array([[one.observed - one.low, one.high - one.observed] for one in curve]).T
    axes.errorbar(predicted, observed, yerr=np.nan_to_num(reach), fmt="o-", color=_INK, markersize=3.5, linewidth=1.0,
                  elinewidth=0.8, capsize=2)  # fmt: skip
    # Points lie so close at times that no number fits beside each.
    told = f"cases: {', '.join(str(one.count) for one in curve)}"
    axes.text(0.98, 0.03, told, fontsize=7, color=theme.soft, ha="right", transform=axes.transAxes)
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(low - pad, high + pad)
    axes.set_aspect("equal")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(_ticks())
    axes.tick_params(labelsize=7)


def _ticks(integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, integer=integer)


def histogram(values: np.ndarray, marks: Sequence[tuple[str, float]], title: str, axis: str) -> Figure:
    """Draw a distribution with named values marked in it."""
    with drawing("light"):
        figure, axes = sheet(7.0, 2.6)
        axes.hist(values[np.isfinite(values)], bins=30, color="#b8c7d6", edgecolor="white")
        for _, value in marks:
            axes.axvline(value, color="#a02020", linewidth=1.0)
        for number, (name, value) in enumerate(marks):
            # The oddest lie at the right edge: their names stand to the left of their lines.
            axes.annotate(name, (value, 0.92 - 0.13 * number), xycoords=("data", "axes fraction"), fontsize=7,
                          color="#a02020", ha="right", xytext=(-3, 0), textcoords="offset points",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
        axes.yaxis.set_major_locator(_ticks(integer=True))
        axes.set_xlabel(axis)
        axes.set_ylabel("cases")
        axes.set_title(title, fontsize=10, loc="left")
        return figure


def sheet(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    """Return an empty figure of at most that size in inches, with its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    # Without pyplot there is no window and no state between figures.
    figure = Figure(figsize=(min(width, 24.0), min(height, 60.0)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=rows * columns == 1)
    ink = matplotlib.rcParams["xtick.color"]
    for one in np.ravel(axes):
        # Ticks are made when the figure is drawn, which may be outside of drawing().
        one.tick_params(which="both", color=ink, labelcolor=ink)
    return figure, axes
