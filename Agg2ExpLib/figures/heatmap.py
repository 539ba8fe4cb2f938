"""Heat maps of importance matrices: of one case, or the mean of a cohort with confidence half-widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures.measures import BACKGROUND, Measure, check_matrix, measure_of, table_matrix
from Agg2ExpLib.figures.scales import Scale, scale_bar, scale_of
from Agg2ExpLib.figures.style import (
    FEW,
    MARGIN,
    Heading,
    Theme,
    add_axes,
    colour_of,
    drawing,
    ink_on,
    new_figure,
    readable,
    system_handles,
    widest,
)
from Agg2ExpLib.importance import ImportanceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FOOT = 0.95  # inches for colour bar and legend
_CELL_FEW, _CELL_MANY = 0.44, 0.118
_FONT_FEW, _FONT_MANY = 9.0, 6.5
# Inches that the label of the rows takes, written upright.
_ROOM_FOR_LABEL = 1.2
# A cell with fewer than half a percent says nothing by its digit.
_LEAST_WRITTEN = 0.005


def importance_heat_map(
    table: ImportanceTable, measure: str | Measure = "mass", *, extra: Sequence[str] = (), background: str = "light",
    note: str = "",
) -> Figure:  # fmt: skip
    """Draw the local explanation matrix of one case.

    Parameters
    ----------
    table : ImportanceTable
        Of the case.
    measure : str or Measure
        One of :data:`~Agg2ExpLib.figures.measures.MEASURES`.
    extra : sequence of str
        Columns that are extra regions: set apart by a line.
    background : str
        ``"light"`` or ``"dark"``.
    note : str
        A sentence for the heading, such as what was explained.

    Returns
    -------
    matplotlib.figure.Figure
    """
    chosen = measure_of(measure)
    matrix, columns = table_matrix(table, chosen, extra)
    return heat_map(matrix, table.classes, columns, chosen, extra=extra, background=background, note=note)


def heat_map(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    measure: str | Measure = "mass",
    *,
    half_widths: np.ndarray | None = None,
    extra: Sequence[str] = (),
    title: str = "",
    note: str = "",
    background: str = "light",
) -> Figure:
    """Draw any importance matrix.

    Parameters
    ----------
    matrix : ndarray, shape (rows, columns)
        Shares of 0 to 1, or ratios; NaN is drawn as absent.
    rows, columns : sequence of str
        Identifiers of explained classes and of regions.
    measure : str or Measure
        What the numbers are.
    half_widths : ndarray, shape (rows, columns), optional
        Half of each confidence interval, in the matrix's unit: written into the cells of a small matrix; in a large
        one a dot marks each cell whose interval holds "nothing" (a share of 0, a ratio of 1).
    extra : sequence of str
        Columns that are extra regions.
    title, note : str
        Heading, and a sentence under it.
    background : str
        ``"light"`` or ``"dark"``.

    Raises
    ------
    InputError
        Shapes and names that do not fit, an empty matrix, or an impossible value.
    """
    chosen = measure_of(measure)
    values = check_matrix(matrix, rows, columns)
    if half_widths is not None and np.shape(half_widths) != values.shape:
        raise InputError(f"half-widths of shape {np.shape(half_widths)} do not fit a matrix of {values.shape}")
    with drawing(background) as theme:
        few = len(columns) <= FEW and len(rows) <= FEW
        cell, font = (_CELL_FEW, _FONT_FEW) if few else (_CELL_MANY, _FONT_MANY)
        chip = max(0.11, 0.6 * cell if not few else 0.13)
        row_names, column_names = [readable(name) for name in rows], [readable(name) for name in columns]
        left = MARGIN + 0.22 + widest(row_names, font) + chip + 0.14
        below = widest(column_names, font) + chip + 0.14 + 0.24
        across, up = cell * len(columns), cell * len(rows)
        width = max(left + across + MARGIN + 0.15, 7.5)
        grey = "Background, in grey, has no part in the colours." if BACKGROUND in columns and not chosen.ratio else ""
        sentences = [
            chosen.meaning,
            f"{_reading_sentence(chosen, few)} {grey}".strip(),
            _interval_sentence(half_widths, few, chosen),
            note,
        ]
        heading = Heading.of(title or f"RoI importance: {chosen.title}", sentences, width)
        figure = new_figure(width, heading.height + up + below + _FOOT + MARGIN)
        heading.draw(figure, theme)
        axes = add_axes(figure, left, MARGIN + _FOOT + below, across, up)
        # Background holds most of nearly everything: it has grey of its own, and the colours are left to the rest.
        apart = [] if chosen.ratio or len(columns) < 2 else [n for n, name in enumerate(columns) if name == BACKGROUND]
        coloured = np.delete(values, apart, axis=1)
        scale = scale_of(coloured, chosen, theme)
        axes.imshow(values, norm=scale.norm, cmap=scale.colours, aspect="auto", interpolation="nearest")
        for column in apart:
            _draw_apart(axes, values[:, column], column, theme)
        _label(axes, (row_names, column_names), (rows, columns), (cell, chip, font), theme)
        _mark_absent(axes, values, theme, few)
        _set_apart(axes, len(rows), columns, extra, theme, few)
        _frame_own(axes, rows, columns, theme, few)
        if few:
            _write_values(axes, values, half_widths, scale, apart, theme)
        elif half_widths is not None:
            _dot_uncertain(axes, values, np.asarray(half_widths), scale)
        scale_bar(figure, (left, MARGIN + 0.45, min(across, 3.6) if across > 2 else 3.0, 0.13), scale)
        _legend(figure, [*rows, *columns], values, theme)
    return figure


def heat_maps_side_by_side(
    parts: Sequence[tuple[str, np.ndarray]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    background: str = "light",
) -> Figure:
    """Draw matrices of shares of the same rows and columns on one scale, without numbers.

    Parameters
    ----------
    parts : sequence of (str, ndarray of shape (rows, columns))
        Caption and matrix of each.
    rows, columns : sequence of str
        Identifiers.
    title : str
        Heading.
    background : str
        ``"light"`` or ``"dark"``.
    """
    measure = measure_of("mass")
    with drawing(background) as theme:
        font = _FONT_FEW - 1 if max(len(rows), len(columns)) <= FEW else _FONT_MANY
        cell = 0.19 if max(len(rows), len(columns)) <= FEW else _CELL_MANY
        row_names, column_names = [readable(name) for name in rows], [readable(name) for name in columns]
        left, below = MARGIN + widest(row_names, font) + 0.15, widest(column_names, font) + 0.15
        across, up = cell * len(columns), cell * len(rows)
        width = max(left + len(parts) * (across + 0.3) + MARGIN, 7.5)
        words = [
            measure.meaning,
            "Rows: explained classes; columns: regions. Background, in grey, has no part in the colours.",
        ]
        heading = Heading.of(title, words, width)
        figure = new_figure(width, heading.height + 0.3 + up + below + _FOOT)
        heading.draw(figure, theme)
        apart = [n for n, name in enumerate(columns) if name == BACKGROUND and len(columns) > 1]
        scale = scale_of(np.concatenate([np.delete(check_matrix(one, rows, columns), apart, axis=1) for _, one in parts]),
                         measure, theme)  # fmt: skip
        for number, (caption, matrix) in enumerate(parts):
            axes = add_axes(figure, left + number * (across + 0.3), _FOOT + below, across, up)
            axes.imshow(matrix, norm=scale.norm, cmap=scale.colours, aspect="auto", interpolation="nearest")
            for column in apart:
                _draw_apart(axes, matrix[:, column], column, theme)
            _frame_own(axes, rows, columns, theme, False)
            axes.set_title(caption, size=9.5, loc="left", pad=4)
            axes.set_yticks(range(len(rows)), row_names if number == 0 else [""] * len(rows), size=font)
            axes.set_xticks(range(len(columns)), column_names, size=font, rotation=90)
            axes.tick_params(length=0)
            axes.set_xlim(-0.5, len(columns) - 0.5)
            axes.set_ylim(len(rows) - 0.5, -0.5)
        scale_bar(figure, (left, 0.5, 3.0, 0.13), scale)
    return figure


def _draw_apart(axes: Axes, values: np.ndarray, column: int, theme: Theme) -> None:
    """Draw a column in greys between paper and soft ink, 0 to 100 %."""
    from matplotlib.colors import LinearSegmentedColormap

    greys = LinearSegmentedColormap.from_list("apart", [theme.paper, theme.faint]).with_extremes(bad=theme.absent)
    axes.imshow(values[:, None], cmap=greys, vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest",
                extent=(column - 0.5, column + 0.5, len(values) - 0.5, -0.5))  # fmt: skip


def _reading_sentence(measure: Measure, few: bool) -> str:
    numbers = "" if measure.ratio or not few else "Numbers are percent; a cell under 0.5 has none. "
    return f"{numbers}Framed: a class's own region."


def _interval_sentence(half_widths: np.ndarray | None, few: bool, measure: Measure) -> str:
    if half_widths is None:
        return ""
    if few:
        return "Under each value: half the width of its confidence interval."
    nothing = "1 (neither more nor less than any region)" if measure.ratio else "0"
    return f"A dot marks a cell whose confidence interval holds {nothing}."


def _label(
    axes: Axes,
    names: tuple[Sequence[str], Sequence[str]],
    identifiers: tuple[Sequence[str], Sequence[str]],
    sizes: tuple[float, float, float],
    theme: Theme,
) -> None:
    from matplotlib.patches import Rectangle

    cell, chip, font = sizes
    pad = (chip + 0.1) * 72
    axes.set_yticks(range(len(names[0])), names[0], size=font)
    axes.set_xticks(range(len(names[1])), names[1], size=font, rotation=90)
    axes.tick_params(length=0, pad=pad)
    if cell * len(names[0]) > _ROOM_FOR_LABEL:
        axes.set_ylabel("explained class", size=9, labelpad=4)
    below = "region that holds the attribution" + ("" if axes.get_ylabel() else " (row: explained class)")
    axes.set_xlabel(below, size=9, labelpad=4, loc="center" if cell * len(names[1]) > _ROOM_FOR_LABEL + 2 else "left")
    for spine in axes.spines.values():
        spine.set_visible(False)
    # The chip beside each name has the structure's colour, in units of cells outside of the picture.
    size, gap = chip / cell, 0.05 / cell
    high = min(0.8, max(size, 0.35))
    bottom = len(names[0]) - 0.5
    for row, name in enumerate(identifiers[0]):
        corner = (-0.5 - gap - size, row - high / 2)
        axes.add_patch(Rectangle(corner, size, high, facecolor=colour_of(name), edgecolor=theme.faint, linewidth=0.4,
                                 clip_on=False))  # fmt: skip
    for column, name in enumerate(identifiers[1]):
        corner = (column - high / 2, bottom + gap)
        axes.add_patch(Rectangle(corner, high, size, facecolor=colour_of(name), edgecolor=theme.faint, linewidth=0.4,
                                 clip_on=False))  # fmt: skip
    axes.set_xlim(-0.5, len(names[1]) - 0.5)
    axes.set_ylim(bottom, -0.5)


def _mark_absent(axes: Axes, values: np.ndarray, theme: Theme, few: bool) -> None:
    """Write "absent" into rows without any number; a single cell without one is only grey."""
    if not few:
        return
    for row in np.flatnonzero(~np.isfinite(values).any(axis=1)):
        axes.text((values.shape[1] - 1) / 2, float(row), "absent from the prediction", size=8, ha="center", va="center",
                  color=ink_on(theme.absent), style="italic", clip_on=values.shape[1] > 5)  # fmt: skip


def _set_apart(axes: Axes, rows: int, columns: Sequence[str], extra: Sequence[str], theme: Theme, few: bool) -> None:
    """Draw a line before the extra regions, and in a large matrix a thin one after every tenth row and column."""
    there = [index for index, name in enumerate(columns) if name in extra]
    if there and min(there) > 0:
        axes.axvline(min(there) - 0.5, color=theme.ink, linewidth=1.2 if few else 0.6)
    if not few:
        for index in range(9, len(columns), 10):
            axes.axvline(index + 0.5, color=theme.faint, linewidth=0.25)
        for index in range(9, rows, 10):
            axes.axhline(index + 0.5, color=theme.faint, linewidth=0.25)


def _frame_own(axes: Axes, rows: Sequence[str], columns: Sequence[str], theme: Theme, few: bool) -> None:
    """Frame the cell in which a class meets itself."""
    from matplotlib.patches import Rectangle

    column_of = {name: column for column, name in enumerate(columns)}
    for row, name in enumerate(rows):
        if name in column_of:
            corner = (column_of[name] - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=theme.ink, linewidth=0.9 if few else 0.35,
                                     gid=f"own {name}"))  # fmt: skip


def _write_values(
    axes: Axes, values: np.ndarray, half_widths: np.ndarray | None, scale: Scale, apart: Sequence[int], theme: Theme
) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not np.isfinite(value) or (not scale.measure.ratio and value < _LEAST_WRITTEN):
            continue
        text = _short(value, scale.measure.ratio)
        size = 7.5
        if half_widths is not None and np.isfinite(half_widths[row, column]):
            text, size = f"{text}\n±{_short(float(half_widths[row, column]), scale.measure.ratio, fine=True)}", 6.5
        axes.text(column, row, text, size=size, ha="center", va="center",
                  color=theme.ink if column in apart else ink_on(scale.colour(value)), linespacing=1.0)  # fmt: skip


def _short(value: float, ratio: bool, fine: bool = False) -> str:
    """Return a value without its unit, in few letters."""
    shown = value if ratio else 100 * value
    if shown >= 9.95 or (not ratio and not fine):
        return f"{shown:.0f}"
    return f"{shown:.1f}"


def _dot_uncertain(axes: Axes, values: np.ndarray, half: np.ndarray, scale: Scale) -> None:
    with np.errstate(invalid="ignore"):
        unsure = np.abs(values - (1.0 if scale.measure.ratio else 0.0)) <= half
    rows, columns = np.nonzero(unsure)
    inks = [ink_on(scale.colour(value)) for value in values[rows, columns]]
    axes.scatter(columns, rows, s=2.0, c=inks, linewidths=0, zorder=3, gid="uncertain")


def _legend(figure: Figure, identifiers: Sequence[str], values: np.ndarray, theme: Theme) -> None:
    from matplotlib.patches import Patch

    handles = system_handles(identifiers, theme)
    if not np.isfinite(values).all():
        handles.append(Patch(facecolor=theme.absent, edgecolor=theme.ink, linewidth=0.5, label="absent (no voxel)"))
    across, up = (float(side) for side in figure.get_size_inches())
    figure.legend(handles=handles, loc="lower right", ncols=2, fontsize=8, handlelength=1.0, handleheight=1.0,
                  columnspacing=1.2, labelspacing=0.35, borderaxespad=0,
                  bbox_to_anchor=(1 - MARGIN / across, MARGIN / up))  # fmt: skip
