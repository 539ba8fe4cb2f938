"""All figures of one explained case, written into a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures.bars import class_bars, context_bars
from Agg2ExpLib.figures.fonts import undrawable
from Agg2ExpLib.figures.graph import importance_graph
from Agg2ExpLib.figures.heatmap import importance_heat_map
from Agg2ExpLib.figures.measures import check_matrix, measure_of
from Agg2ExpLib.figures.slices import CaseVolumes, slice_panels
from Agg2ExpLib.figures.style import BACKGROUNDS, FEW
from Agg2ExpLib.figures.writing import FORMATS, write_figure
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import safe_file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Both are told wherever one is: mass alone is ruled by size.
DEFAULT_MEASURES = ("mass", "enrichment")
#: Of a model with many classes, these many get figures of their own when none is named: the largest.
_CHOSEN_OF_MANY = 6


def write_case_figures(
    explanation: Explanation,
    out: str | Path,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    classes: Sequence[str] | None = None,
    background: str = "light",
    background_node: bool = False,
    formats: tuple[str, ...] = FORMATS,
    dpi: float = 150,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the figures of one case: ``heat_map_<measure>``, ``graph_<measure>``, ``context``, ``bars_<class>``, ``slices_<class>``.

    Parameters
    ----------
    explanation : Explanation
        The case.
    out : path
        Folder for the files; made when it is not there. Files of the same names are replaced.
    measures : sequence of str
        For heat map and graph.
    classes : sequence of str, optional
        Classes that get bars and slices; ``None``: see :func:`default_classes`.
    background : str
        ``"light"`` or ``"dark"``.
    background_node : bool
        Whether the class background is a node of the graph.
    formats, dpi
        As for :func:`~Agg2ExpLib.figures.writing.write_figure`.
    progress : Progress, optional
        Counts the figures.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        An unknown measure, class or background, or a damaged explanation. Checked before the first file is written as
        far as that is possible.
    OutputError
        A file cannot be written.
    """
    progress = progress or Progress()
    chosen_measures = [measure_of(measure).id for measure in dict.fromkeys(measures)]
    if background not in BACKGROUNDS:
        raise InputError(f"unknown background {background!r}: use {' or '.join(BACKGROUNDS)}")
    if not explanation.importance.classes:
        raise InputError(f"{explanation.folder} explains no class, so there is nothing to draw; explain it again")
    table = explanation.importance
    for measure in DEFAULT_MEASURES:
        check_matrix(table.matrix(measure), table.classes, table.rois)
    chosen = default_classes(explanation) if classes is None else named_classes(explanation, classes)
    volumes = CaseVolumes.of(explanation) if any(name in explanation.explained for name in chosen) else None
    total = 2 * len(chosen_measures) + 1 + len(chosen) + sum(name in explanation.explained for name in chosen)
    progress.stage("figures", total)
    if lacking := undrawable([*table.classes, *table.rois, provenance(explanation)]):
        progress.message(lacking)
    files = []
    for name, figure in _figures(explanation, chosen_measures, chosen, volumes, background, background_node):
        files += write_figure(figure, out, name, formats=formats, dpi=dpi)
        progress.advance(detail=name)
    return files


def _figures(
    explanation: Explanation,
    measures: Sequence[str],
    classes: Sequence[str],
    volumes: CaseVolumes | None,
    background: str,
    background_node: bool,
) -> Iterator[tuple[str, Figure]]:
    table, extra, note = explanation.importance, explanation.regions, provenance(explanation)
    for measure in measures:
        yield (
            f"heat_map_{measure}",
            importance_heat_map(table, measure, extra=extra, background=background, note=note),
        )
        yield (
            f"graph_{measure}",
            importance_graph(
                table, measure, with_background=background_node, extra=extra, background=background, note=note
            ),
        )
    yield "context", context_bars(table, background=background, note=note)
    for name in classes:
        if name in table.classes:
            figure = class_bars(table, name, extra=extra, background=background, note=note)
            yield f"bars_{safe_file_name(name)}", figure
        if name in explanation.explained:
            figure = slice_panels(explanation, name, background=background, note=note, volumes=volumes)
            yield f"slices_{safe_file_name(name)}", figure


def provenance(explanation: Explanation) -> str:
    """Return one sentence that tells scan, model and method.

    Raises
    ------
    InputError
        The explanation's description lacks one of them.
    """
    document = explanation.document
    try:
        image, model, settings = document["image"]["name"], document["model"]["name"], document["settings"]
        samples = f", {settings['samples']} samples" if settings.get("samples") else ""
        return f"Scan {image}, model {model}, method {settings['method']}{samples}."
    except (KeyError, TypeError) as error:
        raise InputError(f"{explanation.folder} does not tell its {error}; repeat the explanation") from error


def default_classes(explanation: Explanation) -> tuple[str, ...]:
    """Return the classes that get figures of their own: every explained one, or the largest when they are many."""
    explained = explanation.explained
    if len(explained) <= FEW:
        return explained
    table = explanation.importance
    sizes = {
        name: table.matrix("voxels")[0, table.rois.index(name)] if name in table.rois else 0.0 for name in explained
    }
    largest = sorted(explained, key=lambda name: -sizes[name])[:_CHOSEN_OF_MANY]
    return tuple(name for name in explained if name in largest)


def named_classes(explanation: Explanation, names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that a person named, by identifier or readable name; ``all`` means every explained one.

    Raises
    ------
    InputError
        A name that is no row of the table.
    """
    rows = explanation.importance.classes
    if "all" in names:
        return explanation.explained
    readable = {structure(row).name.lower(): row for row in rows}
    chosen = []
    for name in names:
        row = name if name in rows else readable.get(name.strip().lower())
        if row is None:
            raise InputError(
                f"{explanation.folder} does not explain {name!r}: {nearest_names(name, explanation.explained)}"
            )
        chosen.append(row)
    return tuple(dict.fromkeys(chosen))
