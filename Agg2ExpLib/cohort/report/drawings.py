"""The paper's figures of a cohort, each with a name for its file and a caption: for the report and for ``agg2exp figures``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib import figures
from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import held_out_sizes
from Agg2ExpLib.cohort.judge.intervals import by_patient, median_matrix
from Agg2ExpLib.cohort.judge.profile import FEWEST, fit_profile
from Agg2ExpLib.cohort.judge.statistics import MeanMatrix, mean_matrix, score_against_dice
from Agg2ExpLib.cohort.report.pictures import group_means
from Agg2ExpLib.cohort.run.store import CohortFolder, file_stem
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError, nearest_names
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures.side_by_side import methods_side_by_side, patients_side_by_side
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import safe_file_name, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Structures that the paper shows as one: name -> how the identifiers of its parts begin.
JOINED = {"lungs": ("lung_",), "deep back muscles": ("autochthon",)}
# Beyond this many names a graph is a page of its own, not a picture.
_LARGEST = 60
_PATIENTS = 3


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, the name of its file, and a caption; ``photo`` tells that it shows scans, which are never recoloured."""

    name: str
    caption: str
    figure: Figure
    photo: bool = False


def extra_regions(table: CohortTable) -> list[str]:
    """Return the regions that are no class of the model, such as findings."""
    labels = table.identity["model"].get("labels") or []
    return [roi for roi in table.rois if roi not in labels]


def overall(table: CohortTable, background: str = "light") -> Iterator[Drawing]:
    """Yield the mean matrices and the graphs of the three strongest sources (figures 4 and 14)."""
    extra, many = extra_regions(table), f"over {len(table.cases)} cases"
    means = {name: mean_matrix(table.values[name]).mean for name in ("mass", "enrichment", "positive", "negative")}
    for measure, words in (("mass", "Mean share of attribution"), ("enrichment", "Mean enrichment")):
        if np.isfinite(means[measure]).any():
            title = f"{words} {many}"
            figure = figures.heat_map(means[measure], table.classes, table.rois, measure, extra=extra, title=title,
                                      background=background)  # fmt: skip
            yield Drawing(f"heat_map_{measure}", title, figure)
    if len(table.rois) > _LARGEST:
        return
    titles = {
        "mass": "What each structure draws on: its top 3 sources by share",
        "enrichment": "What each structure draws on: its top 3 sources for their size",
        "positive": "What speaks for each structure: its top 3 sources of positive attribution",
        "negative": "What speaks against each structure: its top 3 sources of negative attribution",
    }
    for measure, title in titles.items():
        if np.isfinite(means[measure]).any():
            kind = "enrichment" if measure == "enrichment" else "mass"
            figure = figures.draw_graph(means[measure], table.classes, table.rois, kind, extra=extra, background=background,
                                        title=title, note=f"Mean {many}.")  # fmt: skip
            yield Drawing(f"graph_{measure}", title, figure)


def context_boxes(table: CohortTable, background: str = "light") -> Drawing | None:
    """Return the context of each class over the cases, the largest median on top."""
    context = table.context()
    known = [i for i in range(len(table.classes)) if np.isfinite(context[:, i]).any()]
    if not known:
        return None
    figure = figures.box_plots(
        context[:, known], table.cases, [table.classes[i] for i in known], "mass", title="Context of each class",
        note="Context: share of a class's attribution that lies outside of the class itself.", axis="context, %",
        arranged=True, background=background,
    )  # fmt: skip
    return Drawing("context", "Context of each class", figure)


def class_boxes(table: CohortTable, index: int, background: str = "light") -> Drawing | None:
    """Return what one class relied on over the cases (figures 3 and 13); nothing where no case has it."""
    values, name = table.values["mass"][:, index], table.classes[index]
    if not np.isfinite(values).any():
        return None
    title = f"What {structure(name).name} relied on"
    figure = figures.box_plots(values, table.cases, table.rois, "mass", title=title, axis="share of attribution, %",
                               arranged=True, background=background)  # fmt: skip
    return Drawing(f"boxes_{safe_file_name(name)}", title, figure)


def joined_context(table: CohortTable) -> tuple[list[str], np.ndarray]:
    """Return names and context, shape (cases, names), of classes of which lungs and back muscles are joined.

    The context of a joined structure is the mean over its parts of what lies outside of all of them.
    """
    inside: dict[str, list[int]] = {}
    for column, roi in enumerate(table.rois):
        whole = next((name for name, starts in JOINED.items() if roi.startswith(starts)), roi)
        parts = [part for part in table.rois if whole in JOINED and part.startswith(JOINED[whole])]
        # Of a structure of which a part is not explained nothing whole can be said.
        inside.setdefault(whole if all(part in table.classes for part in parts) else roi, []).append(column)
    names, found = [], []
    for whole, columns in inside.items():
        rows = [table.classes.index(table.rois[column]) for column in columns if table.rois[column] in table.classes]
        if rows:
            own = table.values["mass"][:, rows][:, :, columns].sum(axis=2)
            known = np.isfinite(own)
            with np.errstate(invalid="ignore"):
                mean = np.where(known, own, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
            names.append(whole)
            found.append(1.0 - mean)
    return names, np.stack(found, axis=1) if found else np.zeros((len(table.cases), 0))


def contexts_beside(tables: Mapping[str, CohortTable], background: str = "light") -> Drawing | None:
    """Return the joined context of one or several cohorts side by side (figure 6)."""
    parts = {name: joined_context(table) for name, table in tables.items()}
    names = list(dict.fromkeys(name for found, _ in parts.values() for name in found))
    means: dict[str, MeanMatrix] = {}
    for title, (there, values) in parts.items():
        whole = np.full((len(values), len(names)), np.nan)
        for column, name in enumerate(there):
            whole[:, names.index(name)] = values[:, column]
        means[f"{title} ({len(values)})"] = medians_of(by_patient(whole, tables[title].patients()))
    if not names:
        return None
    first = next(iter(means.values())).mean[:, 0]
    order = np.argsort(-np.nan_to_num(first, nan=-1.0), kind="stable")
    means = {
        title: MeanMatrix(*(part[order] for part in (one.mean, one.low, one.high, one.counts)))
        for title, one in means.items()
    }
    title = "How much each structure depends on its surroundings"
    legend = "cohort (cases)" if len(means) > 1 else ""
    figure = group_means(means, [names[i] for i in order], title, background, legend)
    return Drawing("context_joined", title, figure)


def medians_of(values: np.ndarray) -> MeanMatrix:
    """Return medians over cases (cases, names) with their intervals, as :func:`group_means` takes them, shape (names, 1)."""
    middle, low, high = median_matrix(values)
    counts = np.isfinite(values).sum(axis=0)
    return MeanMatrix(middle[:, None], low[:, None], high[:, None], counts[:, None])


def most_usual(table: CohortTable) -> int:
    """Return the case nearest to the medians, of those that have no fewer classes than most: rare ones make nobody usual."""
    values = table.values["mass"]
    known = np.isfinite(values)
    counts = known.sum(axis=(1, 2))
    far = np.where(known, np.abs(values - median_matrix(values)[0]), 0.0).sum(axis=(1, 2)) / np.maximum(counts, 1)
    return int(np.argmin(np.where(counts >= max(np.median(counts), 1), far, np.inf)))


def overview(table: CohortTable, background: str = "light") -> Drawing | None:
    """Return the most usual case beside the whole cohort (figures 1 and 12): matrices on one scale."""
    values = table.values["mass"]
    if not np.isfinite(values).any():
        return None
    usual = most_usual(table)
    parts = [
        (f"one patient: {table.cases[usual]}", values[usual]),
        (f"all {len(values)} cases: mean", mean_matrix(values).mean),
    ]
    figure = figures.heat_maps_side_by_side(
        parts, table.classes, table.rois, "From one patient to the cohort", background
    )
    return Drawing("overview", "The most usual case beside the mean of the cohort", figure)


def kept_explanations(folder: str | Path | None, table: CohortTable) -> dict[str, Path]:
    """Return case -> Explanation folder, of those that were kept."""
    if folder is None:
        return {}
    place = CohortFolder(folder).explanations
    found = {case: place / file_stem(case) for case in table.cases}
    return {case: path for case, path in found.items() if (path / "explanation.json").is_file()}


def patients(
    table: CohortTable, scores: np.ndarray, kept: Mapping[str, Path], index: int, background: str = "light"
) -> Drawing | None:
    """Return slices of the oddest and of the most usual patients of one class (figure 5), of those that were kept.

    Parameters
    ----------
    table : CohortTable
        The cohort.
    scores : ndarray, shape (cases, classes)
        Higher is odder.
    kept : mapping of str to Path
        From :func:`kept_explanations`.
    index : int
        The class.
    background : str
        ``"light"`` or ``"dark"``.
    """
    name = table.classes[index]
    known = [
        i for i in np.argsort(-scores[:, index]).tolist() if np.isfinite(scores[i, index]) and table.cases[i] in kept
    ]
    opened = {i: Explanation.load(kept[table.cases[i]]) for i in {*known[:_PATIENTS], *known[-_PATIENTS:]}}
    known = [i for i in known if i not in opened or name in opened[i].explained]
    count = min(_PATIENTS, len(known) // 2)
    if not count:
        return None
    sides = (("oddest", known[:count]), ("most usual", known[-count:][::-1]))
    rows = [
        [(f"{side}: {table.cases[i]}\nscore {scores[i, index]:.2f}", opened[i]) for i in some] for side, some in sides
    ]
    note = "Top: the oddest explanations of this structure; below: the most usual."
    figure = patients_side_by_side(rows, name, background=background, note=note)
    return Drawing(
        f"patients_{safe_file_name(name)}",
        f"The oddest and the most usual patients: {structure(name).name}",
        figure,
        True,
    )


def methods_beside(
    kept: Mapping[str, Mapping[str, Path]], classes: Sequence[str], background: str = "light"
) -> Iterator[Drawing]:
    """Yield slices of each class by several methods (figures 2 and 7 to 11), of the first case that all cohorts kept.

    Parameters
    ----------
    kept : mapping of str to mapping of str to Path
        Name of a cohort -> :func:`kept_explanations` of it.
    classes : sequence of str
        Which.
    background : str
        ``"light"`` or ``"dark"``.
    """
    common = [case for case in next(iter(kept.values()), {}) if all(case in one for one in kept.values())]
    if len(kept) < 2 or not common:
        return
    opened = [(name, Explanation.load(one[common[0]])) for name, one in kept.items()]
    for name in classes:
        if all(name in explanation.explained for _, explanation in opened):
            figure = methods_side_by_side(opened, name, background=background)
            yield Drawing(
                f"methods_{safe_file_name(name)}", f"{structure(name).name}: methods on {common[0]}", figure, True
            )


def write_cohort_figures(
    folders: Sequence[Path],
    tables: Sequence[CohortTable],
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    background: str = "light",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the paper's figures of a cohort as PNG and SVG, and its Table 2 (scores against Dice) as CSV.

    Parameters
    ----------
    folders, tables : sequences of Path and CohortTable
        The cohort; further ones stand beside it: their contexts, and where their explanations were kept, their methods.
    out : path
        Folder for the files.
    classes : sequence of str, optional
        Classes that get box plots and slices; every one by default.
    background : str
        ``"light"`` or ``"dark"``.
    progress : Progress, optional
        Counts the figures.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        A class that the cohort does not have, or cohorts of one name.
    OutputError
        A file cannot be written.
    """
    table, progress = tables[0], progress or Progress()
    wanted = table.classes if classes is None else tuple(classes)
    for name in wanted:
        if name not in table.classes:
            raise InputError(f"{folders[0]} does not explain {name!r}: {nearest_names(name, table.classes)}")
    named = _named(folders, tables)
    progress.stage("figures", 0)
    written: list[Path] = []
    for one in _drawings(folders, named, wanted, background):
        written += figures.write_figure(one.figure, out, one.name)
        progress.advance(0, detail=one.name)
    if np.isfinite(table.dice).any():
        written.append(Path(out) / "table_2.csv")
        write_file(written[-1], _table_2(table).encode())
    return written


def _named(folders: Sequence[Path], tables: Sequence[CohortTable]) -> dict[str, CohortTable]:
    """Return the cohorts by folder name, or by method where that tells them apart."""
    methods = [str(table.identity["settings"].get("method")) for table in tables]
    names = methods if len(set(methods)) == len(methods) > 1 else [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(
            f"two of the cohorts are called {names[-1]}; rename a folder, so that figures can tell them apart"
        )
    return dict(zip(names, tables, strict=True))


def _drawings(
    folders: Sequence[Path], named: Mapping[str, CohortTable], classes: Sequence[str], background: str
) -> Iterator[Drawing]:
    table = next(iter(named.values()))
    yield from (one for one in (overview(table, background), context_boxes(table, background)) if one)
    yield from overall(table, background)
    beside = contexts_beside(named, background)
    if beside:
        yield beside
    for name in classes:
        one = class_boxes(table, table.classes.index(name), background)
        if one:
            yield one
    kept = {name: kept_explanations(folder, part) for folder, (name, part) in zip(folders, named.items(), strict=True)}
    first = next(iter(kept.values()))
    if first and len(table.cases) >= FEWEST:
        scores = fit_profile(table).held_out
        for name in classes:
            one = patients(table, scores, first, table.classes.index(name), background)
            if one:
                yield one
    yield from methods_beside(kept, classes, background)


def _table_2(table: CohortTable) -> str:
    """Return scores against Dice of each class and of the means, with p and q."""
    profile, whose = fit_profile(table), table.patients()
    sizes = held_out_sizes(table.volumes, table.present(), FEWEST, profile.seed, whose)
    lines = ["class,cases,rho,low,high,p,q,rho_given_sizes,rho_given_sizes_p"]
    for one in score_against_dice(profile.held_out, table.dice, table.classes, sizes, whose):
        numbers = (one.rho, one.low, one.high, one.p, one.q, one.given_size, one.given_size_p)
        lines.append(
            ",".join([one.name or "means over classes", str(one.cases), *(f"{value:.6g}" for value in numbers)])
        )
    return "\n".join(lines) + "\n"
