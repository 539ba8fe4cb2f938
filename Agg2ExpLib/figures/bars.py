"""Bars: the context of every class, and all regions' importance for one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.figures.measures import MEASURES
from Agg2ExpLib.figures.rows import row_charts, system_legend
from Agg2ExpLib.figures.scales import ratio_ticks, scale_of
from Agg2ExpLib.figures.style import (
    MARGIN,
    Heading,
    Theme,
    add_axes,
    colour_of,
    drawing,
    new_figure,
    readable,
    widest,
)
from Agg2ExpLib.importance import ImportanceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: A class's bars show this many regions at most.
MOST_BARS = 24


def context_bars(table: ImportanceTable, *, background: str = "light", note: str = "") -> Figure:
    """Draw the context of every class: the share of its attribution that lies outside of it, largest on top.

    Parameters
    ----------
    table : ImportanceTable
        Of one case.
    background : str
        ``"light"`` or ``"dark"``.
    note : str
        A sentence for the heading.
    """
    if not table.classes:
        raise InputError("there is no class to draw: the table is empty; explain at least one class")
    values = table.context()
    order = np.argsort(np.where(np.isfinite(values), -values, np.inf), kind="stable")
    names = [table.classes[index] for index in order]
    sentences = [
        "Context: share of a structure's attribution that lies outside of it (1 - I(E, M)). 0% means that the network "
        "looked at the structure alone, 100% that it looked at its surroundings alone.",
        note,
    ]
    with drawing(background) as theme:

        def draw(axes: Axes, first: int, last: int) -> None:
            _share_bars(axes, names[first:last], values[order[first:last]], theme, 1.0)

        return row_charts(
            names, ("How much each structure depends on its surroundings", sentences), theme, draw,
            axis="attribution outside of the structure, %",
        )  # fmt: skip


def class_bars(
    table: ImportanceTable, name: str, *, extra: Sequence[str] = (), background: str = "light", note: str = ""
) -> Figure:
    """Draw every region's mass and enrichment for one class, largest mass on top.

    Parameters
    ----------
    table : ImportanceTable
        Of one case.
    name : str
        The class.
    extra : sequence of str
        Columns that are extra regions: hatched, and always shown.
    background : str
        ``"light"`` or ``"dark"``.
    note : str
        A sentence for the heading.

    Raises
    ------
    InputError
        A class that the table does not have.
    """
    if name not in table.classes:
        raise InputError(f"the table has no class {name!r}: {nearest_names(name, table.classes)}")
    row = table.classes.index(name)
    mass, enrichment = table.matrix("mass")[row], table.matrix("enrichment")[row]
    order = _shown(table, mass, enrichment, name, extra)
    names = [table.rois[index] for index in order]
    left_out = len(table.rois) - len(names) if np.isfinite(mass).any() else 0
    sentences = [
        "Left: share of the attribution that lies in each region. Right: enrichment, that share over the region's share "
        "of the volume; 1 means as much as any region of that size.",
        f"Shown are {len(names)} of {len(table.rois)} regions: those with the largest shares and enrichments."
        if left_out
        else "",
        "Hatched, with a star: extra regions, which may overlap the others." if set(names) & set(extra) else "",
        ""
        if np.isfinite(mass).any()
        else f"The prediction has no voxel of {readable(name)}, so there is nothing to show.",
        note,
    ]
    with drawing(background) as theme:
        written = [readable(roi) + (" *" if roi in extra else "") for roi in names]
        label = widest(written, 9.0) * 1.1 + 0.15
        width = 2 * MARGIN + label + 3.4 + 0.45 + 3.4 + 0.35
        heading = Heading.of(f"What the prediction of {readable(name)} draws on", sentences, width)
        body, foot = max(0.23 * len(names), 0.4), MARGIN + 0.85
        figure = new_figure(width, heading.height + body + foot)
        heading.draw(figure, theme)
        shares = add_axes(figure, MARGIN + label, foot, 3.4, body)
        ratios = add_axes(figure, MARGIN + label + 3.4 + 0.45, foot, 3.4, body)
        finite = mass[np.isfinite(mass)]
        _share_bars(shares, names, mass[order], theme, float(finite.max()) if finite.size else 1.0)
        _ratio_bars(ratios, names, enrichment[order], theme)
        for axes in (shares, ratios):
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="x", labelsize=8, length=2.5, width=0.6)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="x", color=theme.faint, linewidth=0.3, alpha=0.6)
            axes.set_axisbelow(True)
            for index, roi in enumerate(names):
                if roi in extra:
                    axes.patches[index].set(hatch="////", edgecolor=theme.faint)
        shares.set_yticks(range(len(names)), written, size=9)
        for tick, roi in zip(shares.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if roi == name else "normal")
        ratios.set_yticks([])
        shares.set_xlabel("share of attribution (mass), %", size=8.5, labelpad=3)
        ratios.set_xlabel("enrichment, times an average region", size=8.5, labelpad=3)
        system_legend(figure, names, theme)
    return figure


def _shown(
    table: ImportanceTable, mass: np.ndarray, enrichment: np.ndarray, name: str, extra: Sequence[str]
) -> np.ndarray:
    """Columns to show: extra regions and the class itself always, then the largest and those used most for their size."""
    if not np.isfinite(mass).any():
        return np.array([table.rois.index(name) if name in table.rois else 0])
    key = np.where(np.isfinite(mass), mass, -1.0)
    by_mass = np.argsort(-key, kind="stable")
    if len(by_mass) <= MOST_BARS:
        return by_mass
    must = [index for index, roi in enumerate(table.rois) if roi in extra or roi == name]
    by_ratio = np.argsort(-np.where(np.isfinite(enrichment), enrichment, -1.0), kind="stable")
    kept = list(dict.fromkeys([*must, *by_ratio[:6], *by_mass]))[: max(MOST_BARS, len(must))]
    return np.array([index for index in by_mass if index in set(kept)])


def _share_bars(axes: Axes, names: Sequence[str], values: np.ndarray, theme: Theme, most: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.barh(range(len(names)), np.nan_to_num(values), height=0.72, color=[colour_of(name) for name in names],
              edgecolor=theme.ink, linewidth=0.4)  # fmt: skip
    # Room to the right of the longest bar for its number.
    axes.set_xlim(0, max(most, 0.01) * 1.14)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{100 * tick:g}"))
    gap = max(most, 0.01) * 0.012
    for index, value in enumerate(values):
        known = bool(np.isfinite(value))
        axes.text((value if known else 0) + gap, index, MEASURES["mass"].text(value) if known else "absent", size=7.5,
                  va="center", color=theme.ink if known else theme.faint)  # fmt: skip


def _ratio_bars(axes: Axes, names: Sequence[str], values: np.ndarray, theme: Theme) -> None:
    from matplotlib.ticker import NullLocator

    norm = scale_of(values, MEASURES["enrichment"], theme).norm
    low, high = float(norm.vmin or 0.5), float(norm.vmax or 2.0)
    known = np.isfinite(values)
    ends = np.clip(np.where(known, values, 1.0), low, None)
    high = max(high, float(ends.max(initial=high)))
    axes.set_xscale("log", base=2)
    # Bars begin at 1: what is above average grows right, what is below grows left.
    axes.barh(range(len(names)), ends - 1.0, left=1.0, height=0.72, color=[colour_of(name) for name in names],
              edgecolor=theme.ink, linewidth=0.4)  # fmt: skip
    axes.set_xlim(low / 1.02, high * (high / low) ** 0.16)
    axes.axvline(1.0, color=theme.ink, linewidth=0.9)
    ticks = ratio_ticks(norm)
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    for index, value in enumerate(values):
        text = MEASURES["enrichment"].text(value) if known[index] else "no voxel"
        axes.annotate(text, (max(ends[index], 1.0), index), (3, 0), textcoords="offset points", size=7.5, va="center",
                      color=theme.ink if known[index] else theme.faint)  # fmt: skip
