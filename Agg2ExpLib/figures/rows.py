"""Charts whose rows are structures: panels side by side, so that a hundred rows still fit a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from Agg2ExpLib.figures.style import (
    MARGIN,
    Heading,
    Theme,
    add_axes,
    new_figure,
    readable,
    system_handles,
    widest,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_PER_PANEL = 40
_ROW = 0.2
_FONT = 8.5


def row_charts(
    names: Sequence[str],
    heading: tuple[str, Sequence[str]],
    theme: Theme,
    draw: Callable[[Axes, int, int], None],
    *,
    axis: str,
    chart_width: float = 4.6,
    row: float = _ROW,
    emphasised: Sequence[str] = (),
    apart: tuple[str, Callable[[Axes], None]] | None = None,
) -> Figure:
    """Return a figure of one or more panels of rows, the first row on top.

    Parameters
    ----------
    names : sequence of str
        Identifiers of the rows.
    heading : tuple of (str, sequence of str)
        Title and the sentences under it.
    theme : Theme
        In force (:func:`~Agg2ExpLib.figures.style.drawing`).
    draw : callable
        ``draw(axes, first, last)`` draws rows ``first`` to ``last - 1`` at heights 0, 1, ...
    axis : str
        Label of the value axis.
    chart_width, row : float
        Inches.
    emphasised : sequence of str
        Rows written in bold.
    apart : tuple of (str, callable), optional
        A row on an axis of its own under the others, and what draws it at height 0.
    """
    count = len(names)
    panels = -(-count // ROWS_PER_PANEL)
    deepest = -(-count // panels)
    written = [readable(name) for name in names]
    label = widest([*written, *([readable(apart[0])] if apart else [])], _FONT) * (1.1 if emphasised else 1.0) + 0.15
    panel = label + chart_width + 0.3
    width = max(2 * MARGIN + panels * panel, 6.5)
    top = Heading.of(heading[0], heading[1], width)
    body = max(row * deepest, 0.4)
    foot = MARGIN + 0.3 + 0.5
    if apart:
        foot += row + 0.5
    figure = new_figure(width, top.height + body + foot)
    top.draw(figure, theme)
    for number in range(panels):
        first, last = number * deepest, min((number + 1) * deepest, count)
        tall = body * (last - first) / deepest
        axes = add_axes(figure, MARGIN + number * panel + label, foot + body - tall, chart_width, tall)
        axes.set_ylim(last - first - 0.5, -0.5)
        draw(axes, first, last)
        axes.set_yticks(range(last - first), written[first:last], size=_FONT)
        for tick, name in zip(axes.get_yticklabels(), names[first:last], strict=True):
            if name in emphasised:
                tick.set_fontweight("bold")
        _finish(axes, theme, axis)
    if apart:
        axes = add_axes(figure, MARGIN + label, MARGIN + 0.8, chart_width, row)
        axes.set_ylim(0.5, -0.5)
        apart[1](axes)
        axes.set_yticks([0], [readable(apart[0])], size=_FONT)
        _finish(axes, theme, f"{axis} (background apart: another scale)")
    system_legend(figure, [*names, *([apart[0]] if apart else [])], theme)
    return figure


def _finish(axes: Axes, theme: Theme, axis: str) -> None:
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, length=2.5, width=0.6)
    axes.grid(axis="x", color=theme.faint, linewidth=0.3, alpha=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis, size=8.5, labelpad=3)


def system_legend(figure: Figure, identifiers: Sequence[str], theme: Theme) -> None:
    """Write the systems' legend on one line at the foot."""
    across, up = (float(side) for side in figure.get_size_inches())
    handles = system_handles(identifiers, theme)
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, handlelength=1.0,
                  handleheight=1.0, columnspacing=1.2, borderaxespad=0,
                  bbox_to_anchor=(MARGIN / across, (MARGIN * 0.5) / up))  # fmt: skip
