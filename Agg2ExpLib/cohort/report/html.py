"""The cohort's report: one HTML file with all figures inside, that opens from disk, and the figures as PNG beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.groups import Grouping, compare_groupings
from Agg2ExpLib.cohort.judge.intervals import by_patient, median_matrix
from Agg2ExpLib.cohort.judge.profile import Profile
from Agg2ExpLib.cohort.judge.reasons import percent, percent_range
from Agg2ExpLib.cohort.judge.size import OwnShares, own_shares, size_correlation
from Agg2ExpLib.cohort.judge.statistics import outliers
from Agg2ExpLib.cohort.report.drawings import (
    class_boxes,
    context_boxes,
    contexts_beside,
    kept_explanations,
    overall,
    overview,
)
from Agg2ExpLib.cohort.report.html_groups import write_groups
from Agg2ExpLib.cohort.report.html_scores import write_anomalies
from Agg2ExpLib.cohort.report.html_size import write_equal_size
from Agg2ExpLib.cohort.report.html_warning import write_warning
from Agg2ExpLib.cohort.report.page import Page, interval, number
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.figures.fonts import undrawable
from Agg2ExpLib.figures.measures import BACKGROUND
from Agg2ExpLib.figures.writing import make_folder
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import write_file

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
    folder: str | Path | None = None,
    methods: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report of a cohort, and its pictures as PNG into a folder beside it.

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
    folder : path, optional
        The cohort's folder: explanations that were kept there are shown.
    methods : path, optional
        Folder of ``agg2exp compare-methods``, whose table of methods (Table 1) is shown.
    progress : Progress
        Where stages go.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        A column or bands that cannot be, a profile of another model, or no comparison of methods at ``methods``.
    OutputError
        The file cannot be written.
    """
    progress = progress or Progress()
    groupings = [Grouping.parse(text, table) for text in groups]
    page = Page(f"Agg2Exp cohort report: {len(table.cases)} cases")
    kept = kept_explanations(folder, table)
    quality = None if methods is None else _quality(Path(methods))
    _head(page, table)
    progress.stage("report", 6)
    texts = [*table.classes, *table.rois, *table.cases, *(one for test in groupings for one in test.split(table))]
    if lacking := undrawable(texts):
        progress.message(lacking)
    _global(page, table)
    progress.advance(detail="global importance")
    _distributions(page, table, kept)
    progress.advance(detail="distributions")
    tested = compare_groupings(table, groupings)
    for grouping, tests in zip(groupings, tested, strict=True):
        write_groups(page, table, grouping, tests, sum(map(len, tested)))
    progress.advance(detail="groups")
    matrices = write_anomalies(page, table, profile, kept)
    progress.advance(detail="anomalies")
    if matrices is not None:
        write_warning(page, table, matrices, bad_dice)
    if quality is not None:
        _methods(page, quality)
    _failures(page, table)
    progress.advance(detail="pictures")
    path = Path(path)
    beside = path.with_name(f"{path.stem}_figures")
    if page.pictures:
        make_folder(beside)
    for name, picture in page.pictures.items():
        write_file(beside / name, picture)
    write_file(path, page.render().encode())
    progress.advance(detail=path.name)
    return path


def _head(page: Page, table: CohortTable) -> None:
    model, settings = table.identity["model"], table.identity["settings"]
    page.lead(
        "A model drew structures into these scans. For every structure of every scan this page says where in the scan the model "
        "looked, which scans it treated unlike the others, and whether that warned of a bad drawing. Where the model looked is "
        "no finding in the patient; an unusual scan is a reason to look at it."
    )
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
    joined = contexts_beside({"all": table})
    if joined is not None:
        page.picture(joined.figure, joined.caption, joined.name, first=True)
        page.text(
            "The first picture joins the parts of the lungs and both deep back muscles: what lies in another part counts as inside.",
            "note",
        )
    for one in (overview(table), *overall(table)):
        if one is not None:
            page.picture(one.figure, one.caption, one.name)
    counts = np.isfinite(table.values["mass"]).sum(axis=0)
    middle, low, high = median_matrix(by_patient(table.values["mass"], table.patients()))
    rows, apart = [], table.rois.index(BACKGROUND) if BACKGROUND in table.rois else -1
    for i, name in enumerate(table.classes):
        told = [
            f"{structure(table.rois[j]).name} {_share(middle[i, j], low[i, j], high[i, j])}"
            for j in np.argsort(-np.nan_to_num(middle[i], nan=-1.0), kind="stable").tolist()
            if j != apart and np.isfinite(middle[i, j])
        ][:3]
        behind = [] if apart < 0 else [_share(middle[i, apart], low[i, apart], high[i, apart])]
        rows.append([structure(name).name, str(int(counts[i].max(initial=0))), *behind, *told, *[""] * (3 - len(told))])
    header = [
        "class",
        "cases",
        *(["in background"] if apart >= 0 else []),
        "first source (median, 95 % interval)",
        "second",
        "third",
    ]
    page.table(header, rows)


def _distributions(page: Page, table: CohortTable, kept: Mapping[str, Path]) -> None:
    page.section("Context and distributions")
    context, shares, whose = table.context(), own_shares(table), table.patients()
    within = 1.0 - shares.own_within
    middle, low, high = median_matrix(by_patient(context, whose))
    order = [i for i in np.argsort(-np.nan_to_num(middle, nan=-1.0), kind="stable").tolist() if np.isfinite(middle[i])]
    if order:
        _context_in_words(page, table, within, shares)
        page.text(
            "Context is the share of a class's attribution that lies outside of the class itself, largest first. A large "
            "structure holds more of anything: beside it stands what an attribution spread evenly would have outside (1 - share "
            "of the volume). Within structures leaves the background out of both, so that scans of different fields of view "
            "compare; own share over volume within structures says how much more than size the class relies on itself."
        )
        one = context_boxes(table)
        if one is not None:
            page.picture(one.figure, one.caption, one.name)
        inner, inner_low, inner_high = median_matrix(by_patient(within, whose))
        even = median_matrix(by_patient(1.0 - shares.volume, whose))[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = median_matrix(by_patient(shares.own_within / shares.volume_within, whose))
        rows = [
            [structure(table.classes[i]).name, _share(middle[i], low[i], high[i]), _share(even[i]),
             _share(inner[i], inner_low[i], inner_high[i]),
             f"{number(gain[0][i], 1)} {interval(gain[1][i], gain[2][i], 1)}".strip(), _named(context[:, i], table.cases)]
            for i in order
        ]  # fmt: skip
        header = ["class", "context (median, 95 % interval)", "spread evenly", "context within structures",
                  "own share / volume, within structures", "outliers"]  # fmt: skip
        page.table(header, rows)
        write_equal_size(page, table, kept)
    page.text("For each class, the mass of every region over the cases; outliers are named in the tables.", "note")
    for index, name in enumerate(table.classes):
        values = table.values["mass"][:, index]
        if index >= _MOST_FIGURES or not np.isfinite(values).any():
            continue
        rows = [
            [structure(roi).name, told]
            for j, roi in enumerate(table.rois)
            if (told := _named(values[:, j], table.cases))
        ]
        page.fold(f"{structure(name).name}")
        one = class_boxes(table, index)
        if one is not None:
            page.picture(one.figure, one.caption, one.name)
        page.table(["region", "outliers"], rows)
        page.unfold()


def _context_in_words(page: Page, table: CohortTable, within: np.ndarray, shares: OwnShares) -> None:
    """Say what classes rely on, size accounted for."""
    with np.errstate(invalid="ignore", divide="ignore"):
        gain, low, _ = median_matrix(by_patient(shares.own_within / shares.volume_within, table.patients()))
    known = [i for i in np.argsort(-np.nan_to_num(gain, nan=-1.0), kind="stable").tolist() if np.isfinite(gain[i])]
    if known:
        first, last = known[0], known[-1]
        told = (
            f"Size accounted for, {structure(table.classes[first]).name} relies most on itself "
            f"({gain[first]:.1f} times its share of the structures' volume)"
        )
        if len(known) > 1:
            told += f", {structure(table.classes[last]).name} least ({gain[last]:.1f} times)"
        page.summary(f"{told}.")
        chance = [structure(table.classes[i]).name for i in known if low[i] <= 1.0]
        if chance:
            page.text(f"No more on itself than on any structure of its size: {', '.join(chance)}.", "note")
    count, rho = size_correlation(shares)
    if np.isfinite(rho):
        page.text(
            f"Over {count} structures, own share and volume go together with a Spearman correlation of {rho:.2f}"
            + (": context mostly restates size here." if rho > 0.7 else "."),
            "note",
        )


def _share(middle: float, low: float = np.nan, high: float = np.nan) -> str:
    if not np.isfinite(middle):
        return "–"
    return percent(middle) + (f" ({percent_range(low, high)})" if np.isfinite(low) else "")


def _named(values: np.ndarray, cases: Sequence[str]) -> str:
    found = outliers(values, cases)
    told = ", ".join(f"{case} {percent(value)}" for case, value in found[:_MOST_NAMED])
    return told + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")


def _quality(folder: Path) -> list[str]:
    """Return the lines of the table of methods that compare-methods wrote."""
    path = folder / "quality_table.md"
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); give a folder of agg2exp compare-methods"
        ) from error


def _methods(page: Page, lines: Sequence[str]) -> None:
    page.section("Quality of the methods")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    if len(rows) > 2:
        page.table(rows[0], rows[2:])
    for line in lines[len(rows) :]:
        if line.strip():
            page.text(line.replace("**", ""), "note")


def _failures(page: Page, table: CohortTable) -> None:
    if table.failures:
        page.section("Failed cases")
        page.table(["case", "reason"], [[case, reason] for case, reason in table.failures.items()])
