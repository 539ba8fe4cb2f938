"""The importance graph: which regions each class draws on, around a circle grouped by body system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import SYSTEMS, structure
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
    new_figure,
    readable,
    system_handles,
    widest,
)
from Agg2ExpLib.importance import ImportanceTable

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FOOT = 0.95


@dataclass(frozen=True)
class _Sizes:
    """Inches and points that depend on how many nodes there are."""

    radius: float
    font: float
    dots: tuple[float, float]
    lines: tuple[float, float]
    head: float

    @classmethod
    def of(cls, nodes: int) -> _Sizes:
        if nodes <= FEW:
            return cls(3.0, 10.0, (0.09, 0.24), (0.9, 7.0), 6.0)
        # Names run outwards: each needs the height of a line on the circle.
        return cls(max(3.2, nodes * 0.125 / (2 * math.pi) * 1.15 + 0.9), 7.5, (0.035, 0.085), (0.35, 2.8), 3.0)


def source_graph(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    measure: str | Measure = "mass",
    *,
    count: int = 3,
    with_background: bool = False,
    extra: Sequence[str] = (),
) -> nx.DiGraph:
    """Return the graph of each class's strongest sources.

    Parameters
    ----------
    matrix : ndarray, shape (rows, columns)
        Importance of each region (column) for each class (row).
    rows, columns : sequence of str
        Identifiers.
    measure : str or Measure
        What the numbers are.
    count : int
        Sources per class. The class itself is none: what it holds of its own attribution is the node's ``own``.
    with_background : bool
        Whether background may be a node.
    extra : sequence of str
        Columns that are extra regions.

    Returns
    -------
    networkx.DiGraph
        Nodes in the order of the columns (rows that are no column follow) with ``system``, ``own`` (NaN when
        absent), ``extra`` and ``absent``; edges from region to class with ``weight`` and ``rank`` (1 is the strongest).
    """
    import networkx as nx

    measure_of(measure)
    values = check_matrix(matrix, rows, columns)
    if count < 1:
        raise InputError(f"{count} sources per class cannot be drawn; give 1 or more")
    names = [name for name in dict.fromkeys([*columns, *rows]) if with_background or name != BACKGROUND]
    row_of, column_of = {name: i for i, name in enumerate(rows)}, {name: i for i, name in enumerate(columns)}
    graph = nx.DiGraph()
    for name in names:
        row = row_of.get(name)
        own = values[row, column_of[name]] if row is not None and name in column_of else math.nan
        absent = row is not None and not bool(np.isfinite(values[row]).any())
        graph.add_node(name, system=structure(name).system, own=float(own), extra=name in extra, absent=absent)
    for name in (name for name in rows if name in graph):
        others = [column for column in columns if column in graph and column != name]
        found = np.array([values[row_of[name], column_of[column]] for column in others])
        strength = np.where(np.isfinite(found), found, -np.inf)
        for rank, index in enumerate(np.argsort(-strength, kind="stable")[:count], start=1):
            if strength[index] > 0:
                graph.add_edge(others[index], name, weight=float(strength[index]), rank=rank)
    return graph


def importance_graph(
    table: ImportanceTable, measure: str | Measure = "mass", *, count: int = 3, with_background: bool = False,
    extra: Sequence[str] = (), background: str = "light", note: str = "",
) -> Figure:  # fmt: skip
    """Draw the graph of one case; see :func:`draw_graph`."""
    chosen = measure_of(measure)
    matrix, columns = table_matrix(table, chosen, extra)
    return draw_graph(matrix, table.classes, columns, chosen, count=count, with_background=with_background,
                      extra=extra, background=background, note=note)  # fmt: skip


def draw_graph(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    measure: str | Measure = "mass",
    *,
    count: int = 3,
    with_background: bool = False,
    extra: Sequence[str] = (),
    title: str = "",
    note: str = "",
    background: str = "light",
) -> Figure:
    """Draw the graph of each class's strongest sources.

    An arrow runs from a region to the class whose prediction draws on it; its width and shade are the importance. Dots
    have their structure's colour, stand together by body system, and are as large as the class's own share.

    Parameters
    ----------
    matrix, rows, columns, measure, count, with_background, extra
        As for :func:`source_graph`.
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
    graph = source_graph(
        matrix, rows, columns, chosen, count=count, with_background=with_background, extra=extra
    )  # fmt: skip
    with drawing(background) as theme:
        sizes = _Sizes.of(len(graph))
        names = widest([readable(name) for name in graph], sizes.font) + 0.35
        reach_across = sizes.radius + names
        reach_up = sizes.radius + (0.5 if len(graph) <= FEW else names)
        width = 2 * (reach_across + MARGIN)
        heading = Heading.of(
            title or f"What each structure draws on: its top {count} sources by {chosen.title}",
            [
                f"Arrow: from a region to the structure whose prediction draws on it; the wider and stronger, the larger "
                f"the {chosen.title}. Dot: the larger, the more a structure draws on itself.",
                _without(chosen, with_background),
                note,
            ],
            width,
        )
        height = heading.height + 2 * reach_up + _FOOT + MARGIN
        figure = new_figure(width, height)
        heading.draw(figure, theme)
        axes = add_axes(figure, MARGIN, MARGIN + _FOOT, 2 * reach_across, 2 * reach_up)
        axes.set_axis_off()
        axes.set_xlim(-reach_across, reach_across)
        axes.set_ylim(-reach_up, reach_up)
        angles = circle_angles(graph)
        weights = np.array([weight for *_, weight in graph.edges(data="weight")] or [np.nan])
        scale = scale_of(weights, chosen, theme)
        radii = _radii(graph, sizes)
        _draw_edges(axes, graph, angles, radii, sizes, scale)
        _draw_nodes(axes, graph, angles, radii, sizes, theme)
        scale_bar(figure, (MARGIN + 0.2, MARGIN + 0.45, 3.6, 0.13), scale)
        _legend(figure, graph, theme)
    return figure


def _without(measure: Measure, with_background: bool) -> str:
    if with_background:
        return ""
    return "Background is not drawn" + ("." if measure.ratio else "; the shares still count it.") if (
        measure.id != "mass-without-background"
    ) else ""  # fmt: skip


def circle_angles(graph: nx.DiGraph) -> dict[str, float]:
    """Return where each node stands, in radians: systems side by side, clockwise from the top, with gaps between."""
    groups = [[name for name, its in graph.nodes(data="system") if its == system] for system in SYSTEMS]
    groups = [group for group in groups if group]
    gap = 0.6 if len(graph) <= FEW else 1.5
    steps = len(graph) + (gap * len(groups) if len(groups) > 1 else 0.0)
    angles, position = {}, 0.0
    for group in groups:
        for name in group:
            angles[name] = math.pi / 2 - 2 * math.pi * position / steps
            position += 1.0
        position += gap
    return angles


def _at(angle: float, radius: float) -> np.ndarray:
    return np.array([math.cos(angle), math.sin(angle)]) * radius


def _radii(graph: nx.DiGraph, sizes: _Sizes) -> dict[str, float]:
    """Return the radius of each dot in inches: its area is the class's own share."""
    shares = {name: own if math.isfinite(own) else 0.0 for name, own in graph.nodes(data="own")}
    most = max(shares.values(), default=0.0) or 1.0
    low, high = sizes.dots
    return {name: low + (high - low) * math.sqrt(share / most) for name, share in shares.items()}


def _draw_edges(
    axes: Axes, graph: nx.DiGraph, angles: dict[str, float], radii: dict[str, float], sizes: _Sizes, scale: Scale
) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    low, high = sizes.lines
    # Among ratios that are all far above 1, the differences still have to show.
    key = math.log if scale.measure.ratio else math.sqrt
    found = [key(weight) for *_, weight in graph.edges(data="weight")]
    least, most = (min(found, default=0.0) if scale.measure.ratio else 0.0), max(found, default=1.0)
    for source, target, weight in sorted(graph.edges(data="weight"), key=lambda edge: edge[2]):
        strength = (key(weight) - least) / (most - least) if most > least else 1.0
        # Near neighbours are joined by a flat bow, far ones through the middle.
        apart = math.remainder(angles[target] - angles[source], 2 * math.pi)
        start = _at(angles[source], sizes.radius - radii[source])
        end = _at(angles[target], sizes.radius - radii[target] - 0.02)
        depth = 0.8 - 0.6 * math.sin(abs(apart) / 2)
        bend = (start + end) / 2 * (depth - 0.12 if graph.has_edge(target, source) and apart > 0 else depth)
        width = low + (high - low) * strength**1.5
        head = sizes.head + 1.3 * width
        arrow = FancyArrowPatch(
            path=Curve([start, bend, end], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]),
            arrowstyle=f"simple,tail_width={width:.3f},head_width={head:.3f},head_length={1.2 * head:.3f}",
            mutation_scale=1.0,
            linewidth=0.0,
            facecolor=scale.colour(weight) if scale.measure.ratio else scale.colours(0.25 + 0.75 * strength),
            alpha=0.6 + 0.4 * strength,
            zorder=1 + strength,
        )
        arrow.set_gid(f"{source}->{target}")
        axes.add_patch(arrow)


def _draw_nodes(
    axes: Axes, graph: nx.DiGraph, angles: dict[str, float], radii: dict[str, float], sizes: _Sizes, theme: Theme
) -> None:
    from matplotlib.patches import Circle, Rectangle

    few = len(graph) <= FEW
    for name, angle in angles.items():
        its, radius = graph.nodes[name], radii[name]
        x, y = _at(angle, sizes.radius)
        look: dict[str, Any] = {
            "facecolor": theme.paper if its["absent"] else colour_of(name),
            "edgecolor": theme.faint if its["absent"] else theme.ink,
            "linewidth": 0.7 if few else 0.4,
            "zorder": 4,
        }
        if its["extra"]:
            patch: Any = Rectangle((x - radius, y - radius), 2 * radius, 2 * radius, **look)
        else:
            patch = Circle((x, y), radius, **look)
        patch.set_gid(name)
        axes.add_patch(patch)
        outside = sizes.radius + (radius if few else sizes.dots[1]) + 0.08
        _name(axes, name, angle, outside, sizes.font, theme.faint if its["absent"] else theme.ink, few)


def _name(axes: Axes, name: str, angle: float, radius: float, font: float, ink: str, upright: bool) -> None:
    x, y = _at(angle, radius)
    if upright:
        side = "center" if abs(math.cos(angle)) < 0.08 else "left" if x > 0 else "right"
        level = "center" if side != "center" else "bottom" if y > 0 else "top"
        axes.text(x, y, readable(name), size=font, ha=side, va=level, color=ink)
        return
    turn = math.degrees(angle) % 360
    backwards = 90 < turn < 270
    axes.text(x, y, readable(name), size=font, color=ink, rotation=turn - 180 if backwards else turn,
              rotation_mode="anchor", ha="right" if backwards else "left", va="center")  # fmt: skip


def _legend(figure: Figure, graph: nx.DiGraph, theme: Theme) -> None:
    from matplotlib.lines import Line2D

    handles = system_handles(graph.nodes, theme)
    shapes = {
        "extra region": (any(its for _, its in graph.nodes(data="extra")), "s", theme.ink),
        "absent from the prediction": (any(its for _, its in graph.nodes(data="absent")), "o", theme.faint),
    }
    for label, (there, marker, edge) in shapes.items():
        if there:
            handles.append(Line2D([], [], linestyle="", marker=marker, markersize=7, markerfacecolor=theme.paper,
                                  markeredgecolor=edge, label=label))  # fmt: skip
    across, up = (float(side) for side in figure.get_size_inches())
    figure.legend(handles=handles, loc="lower right", ncols=2, fontsize=8.5, handlelength=1.0, handleheight=1.0,
                  columnspacing=1.2, labelspacing=0.35, borderaxespad=0,
                  bbox_to_anchor=(1 - MARGIN / across, MARGIN / up))  # fmt: skip
