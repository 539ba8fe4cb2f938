"""The cohort's report: one HTML file with all figures inside, that opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.groups import Grouping, tests_of_all
from Agg2ExpLib.cohort.judge.profile import Profile
from Agg2ExpLib.cohort.judge.scoring import percent, percent_range
from Agg2ExpLib.cohort.judge.statistics import mean_matrix, outliers
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.html_groups import write_groups
from Agg2ExpLib.cohort.report.html_scores import write_anomalies
from Agg2ExpLib.cohort.report.html_warning import write_warning
from Agg2ExpLib.cohort.report.page import Page
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage.files import write_whole

#: Dice below which a segmentation counts as bad.
BAD_DICE = 0.8
# Of each list, as many as one still reads.
_MOST_NAMED, _MOST_FIGURES = 6, 40


def write_report(
    table: CohortTable,
    path: str | Path,
    *,
    profile: Profile | None = None,
    groups: Sequence[str] = (),
    bad_dice: float = BAD_DICE,
    progress: Progress | None = None,
) -> Path:
    """Write the report of a cohort.

    Parameters
    ----------
    table : CohortTable
        The cohort.
    path : path
        HTML file to write.
    profile : Profile, optional
        Reference to score the cases against; without one they are held out against each other.
    groups : sequence of str
        Columns of metadata to compare groups by, such as ``sex``, or bands of one: ``age:50,65,80``.
    bad_dice : float
        Dice below which a segmentation counts as bad.
    progress : Progress
        Where stages go.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A column or bands that cannot be, or a profile of another model.
    OutputError
        The file cannot be written.
    """
    progress = progress or Progress()
    groupings = [Grouping.parse(text, table) for text in groups]
    page = Page(f"Agg2Exp cohort report: {len(table.cases)} cases")
    _head(page, table)
    progress.stage("report", 5)
    _global(page, table)
    progress.advance(detail="global importance")
    _distributions(page, table)
    progress.advance(detail="distributions")
    tested = tests_of_all(table, groupings)
    for grouping, tests in zip(groupings, tested, strict=True):
        write_groups(page, table, grouping, tests, sum(map(len, tested)))
    progress.advance(detail="groups")
    matrices = write_anomalies(page, table, profile)
    progress.advance(detail="anomalies")
    if matrices is not None:
        write_warning(page, table, matrices, bad_dice)
    _failures(page, table)
    path = Path(path)
    write_whole(path, page.render().encode())
    progress.advance(detail=path.name)
    return path


def _head(page: Page, table: CohortTable) -> None:
    model, settings = table.identity["model"], table.identity["settings"]
    page.summary(
        f"{len(table.cases)} cases explained, {len(table.failures)} failed"
        + (" (reasons at the end)." if table.failures else ".")
    )
    page.text(
        f"Model {model.get('name')} (sha256 {str(model.get('sha256'))[:16] or 'not known'}), method {settings.get('method')}"
        + (f", {settings['samples']} samples" if settings.get("samples") else "")
        + "."
    )
    page.text(
        "Mass is the share of a class's attribution that lies in a region: the shares of the model's own classes sum to "
        "100 %. Enrichment is mass over the region's share of the volume: 1 means as much as any region of that size.",
        "note",
    )
    missing = len(table.cases) - table.present().sum(axis=0)
    if missing.any():
        told = [f"{structure(n).name} in {m}" for n, m in zip(table.classes, missing.tolist(), strict=True) if m]
        page.text(f"Classes absent from some cases are left out there: {', '.join(told)}.", "note")


def _global(page: Page, table: CohortTable) -> None:
    page.section("Global importance")
    mass, enrichment = (mean_matrix(table.values[measure]) for measure in ("mass", "enrichment"))
    labels = table.identity["model"].get("labels") or []
    extra = [roi for roi in table.rois if roi not in labels]
    half = mass.high - mass.mean
    title = f"Mean mass over {len(table.cases)} cases, % (95 % confidence)"
    half_widths = half if np.isfinite(half).all() else None
    page.picture(pictures.heat_map(mass.mean, table.classes, table.rois, "mass", title, half_widths, extra), title)
    title = f"Mean enrichment over {len(table.cases)} cases"
    page.picture(pictures.heat_map(enrichment.mean, table.classes, table.rois, "enrichment", title, None, extra), title)
    page.picture(pictures.graph(enrichment.mean, table.classes, table.rois, extra), "Top three sources of each class")
    rows = []
    for i, name in enumerate(table.classes):
        order = np.argsort(-np.nan_to_num(mass.mean[i], nan=-1.0), kind="stable")[:3]
        told = [
            f"{structure(table.rois[j]).name} {percent(mass.mean[i, j])} "
            f"({percent_range(max(mass.low[i, j], 0.0), min(mass.high[i, j], 1.0))})"
            if np.isfinite(mass.low[i, j])
            else structure(table.rois[j]).name
            for j in order
        ]
        rows.append([structure(name).name, str(int(mass.counts[i].max(initial=0))), *told, *[""] * (3 - len(told))])
    page.table(["class", "cases", "first source by mass (95 % CI)", "second", "third"], rows)


def _distributions(page: Page, table: CohortTable) -> None:
    page.section("Context and distributions")
    context = table.context()
    means = mean_matrix(context[:, :, None]).mean[:, 0]
    order = [i for i in np.argsort(-np.nan_to_num(means, nan=-1.0), kind="stable").tolist() if np.isfinite(means[i])]
    if order:
        names = [table.classes[i] for i in order]
        first = names[0]
        page.summary(
            f"{_upper(structure(first).name)} depends most on what lies around it: {percent(means[order[0]])} of its attribution "
            f"on average lies outside of it, {structure(names[-1]).name} least ({percent(means[order[-1]])})."
            if len(order) > 1
            else f"{percent(means[order[0]])} of the attribution of {structure(first).name} lies outside of it on average."
        )
        page.text("Context is the share of a class's attribution that lies outside of the class itself, largest first.")
        page.picture(
            pictures.box_plots(context[:, order], table.cases, names, "Context of each class", "context, %"), "Context"
        )
        rows = [
            [structure(table.classes[i]).name, percent(means[i]), _named(context[:, i], table.cases)] for i in order
        ]
        page.table(["class", "mean context", "outliers"], rows)
    page.text("For each class, the mass of every region over the cases; outliers are named in the tables.", "note")
    for number, name in enumerate(table.classes):
        values = table.values["mass"][:, number]
        if number >= _MOST_FIGURES or not np.isfinite(values).any():
            continue
        rows = [
            [structure(roi).name, told]
            for j, roi in enumerate(table.rois)
            if (told := _named(values[:, j], table.cases))
        ]
        page.fold(f"{structure(name).name}")
        title = f"What {structure(name).name} relied on"
        page.picture(pictures.box_plots(values, table.cases, table.rois, title, "mass, %"), title)
        page.table(["region", "outliers"], rows)
        page.unfold()


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(values: np.ndarray, cases: Sequence[str]) -> str:
    found = outliers(values, cases)
    told = ", ".join(f"{case} {percent(value)}" for case, value in found[:_MOST_NAMED])
    return told + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")


def _failures(page: Page, table: CohortTable) -> None:
    if table.failures:
        page.section("Failed cases")
        page.table(["case", "reason"], [[case, reason] for case, reason in table.failures.items()])
