"""The cohort's report: one HTML file with all figures inside, that opens from disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort import pictures
from Agg2ExpLib.cohort.page import Page
from Agg2ExpLib.cohort.profile import FEWEST, Profile, fit_profile
from Agg2ExpLib.cohort.scoring import FALSE_ALARMS, ClassScore, percent, percent_range, score_table
from Agg2ExpLib.cohort.statistics import (
    auroc,
    calibration_curve,
    group_tests,
    groups_of,
    mean_matrix,
    metadata_tests,
    outliers,
    predicted_dice,
    score_against_dice,
)
from Agg2ExpLib.cohort.table import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.files import write_whole
from Agg2ExpLib.progress import Progress

#: Dice below which a segmentation counts as bad.
BAD_DICE = 0.8
# Of each list, as many as one still reads.
_MOST_NAMED, _MOST_ODD, _MOST_FIGURES = 6, 25, 40


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
        Columns of metadata to compare groups by.
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
        A column that is not there, or a profile of another model.
    OutputError
        The file cannot be written.
    """
    progress = progress or Progress()
    for column in groups:
        table.column(column)
    page = Page(f"Agg2Exp cohort report: {len(table.cases)} cases")
    _head(page, table)
    progress.stage("report", 5)
    _global(page, table)
    progress.advance(detail="global importance")
    _distributions(page, table)
    progress.advance(detail="distributions")
    for column in groups:
        _groups(page, table, column)
    progress.advance(detail="groups")
    scores = _anomalies(page, table, profile)
    progress.advance(detail="anomalies")
    if scores is not None:
        _warning(page, table, scores, bad_dice)
    _failures(page, table)
    path = Path(path)
    write_whole(path, page.render().encode())
    progress.advance(detail=path.name)
    return path


def _head(page: Page, table: CohortTable) -> None:
    model, settings = table.identity["model"], table.identity["settings"]
    page.text(
        f"Model {model.get('name')} (sha256 {str(model.get('sha256'))[:16] or 'not known'}), method {settings.get('method')}"
        + (f", {settings['samples']} samples" if settings.get("samples") else "")
        + f"; {len(table.cases)} cases explained, {len(table.failures)} failed."
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


def _named(values: np.ndarray, cases: Sequence[str]) -> str:
    found = outliers(values, cases)
    told = ", ".join(f"{case} {percent(value)}" for case, value in found[:_MOST_NAMED])
    return told + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")


def _groups(page: Page, table: CohortTable, column: str) -> None:
    page.section(f"By {column}")
    groups = groups_of(table, column)
    page.text("; ".join(f"{name}: {len(index)} cases" for name, index in groups.items()) or "No case has a value.")
    tests = group_tests(table, column)
    if not tests:
        page.text("There are not two groups of three cases or more to compare.", "note")
        return
    kind = "Mann-Whitney" if len(tests[0].medians) == 2 else "Kruskal-Wallis"
    real = sum(test.q < 0.05 for test in tests)
    page.text(
        f"{len(tests)} tests ({kind}): context of each class and mass of each region. {real} stay below q = 0.05 after "
        "correction for all of them (Benjamini-Hochberg); the ten smallest:"
    )
    header = ["class", "region", *(f"median, {name}" for name in tests[0].medians), "p", "q"]
    rows = [
        [
            structure(test.name).name,
            structure(test.roi).name if test.roi else "context",
            *map(percent, test.medians.values()),
            _p(test.p),
            _p(test.q),
        ]
        for test in tests[:10]
    ]
    page.table(header, rows)


def _anomalies(page: Page, table: CohortTable, profile: Profile | None) -> np.ndarray | None:
    """Write the section; return scores (cases, classes), or nothing when there are too few cases."""
    page.section("Anomalies")
    own = profile is None
    if profile is None:
        try:
            profile = fit_profile(table)
        except InputError:
            page.text(f"There are fewer than {FEWEST} cases: nothing can be said about what is usual.", "warning")
            return None
        page.text(
            "No profile was given: each case is scored against the others, by forests that have not seen it (isolation forest, "
            "100 trees per class, on the mass of every region)."
        )
    else:
        page.text(f"Scored against a profile of {len(profile.cases)} reference cases.")
    for note in profile.warnings():
        page.text(note, "warning")
    found = score_table(profile, table, reasons_for=_MOST_ODD, with_baselines=not own)
    scores = profile.held_out if own else _matrix(table, [one.score for one in found])
    reasons = {(one.case, one.name): one for one in found}
    odd = sorted(
        ((float(scores[i, j]), case, name) for i, case in enumerate(table.cases) for j, name in enumerate(table.classes)
         if np.isfinite(scores[i, j])), reverse=True
    )[:_MOST_ODD]  # fmt: skip
    page.text(f"The {len(odd)} oddest explanations, and what is unusual about them:")
    rows = [[case, structure(name).name, f"{score:.3f}", _why(reasons[case, name])] for score, case, name in odd]
    page.table(["case", "class", "score", "reasons (reference range: central 95 %)"], rows)
    mean = _row_mean(scores)
    marks = [(table.cases[i], float(mean[i])) for i in np.argsort(-np.nan_to_num(mean, nan=-1.0))[:3].tolist()]
    page.picture(
        pictures.histogram(mean, marks, "Mean score over classes; the three oddest cases marked", "mean anomaly score"),
        "Distribution of mean anomaly scores",
    )
    odd_case = mean > np.nanquantile(mean, 1.0 - FALSE_ALARMS)
    tests = metadata_tests(table, odd_case)
    if tests:
        page.text(
            f"Metadata of the oddest {100 * FALSE_ALARMS:.0f} % of cases ({int(odd_case.sum())}) against the others:"
        )
        header = ["column", "test", "statistic", "p", "q", ""]
        page.table(header, [[t.column, t.test, f"{t.statistic:.4g}", _p(t.p), _p(t.q), t.note] for t in tests])
    return scores


def _why(score: ClassScore) -> str:
    told = "; ".join(reason.sentence(score.name) for reason in score.reasons)
    return told or "no single region is outside of its reference range"


def _matrix(table: CohortTable, values: Sequence[float]) -> np.ndarray:
    return np.array(values).reshape(len(table.classes), len(table.cases)).T


def _row_mean(values: np.ndarray) -> np.ndarray:
    counts = np.isfinite(values).sum(axis=1)
    return np.where(np.isfinite(values), values, 0.0).sum(axis=1) / np.where(counts > 0, counts, np.nan)


def _warning(page: Page, table: CohortTable, scores: np.ndarray, bad_dice: float) -> None:
    page.section("Does an odd explanation warn of a bad segmentation?")
    if not np.isfinite(table.dice).any():
        page.text("No case has ground truth, so this cannot be said.", "note")
        return
    rows = []
    for one in score_against_dice(scores, table.dice, table.classes):
        column = table.classes.index(one.name) if one.name else None
        score = scores[:, column] if column is not None else _row_mean(scores)
        dice = table.dice[:, column] if column is not None else _row_mean(table.dice)
        surface = table.surface_dice[:, column] if column is not None else _row_mean(table.surface_dice)
        known = np.isfinite(dice)
        area = auroc(score[known], dice[known] < bad_dice)
        rows.append(
            [
                structure(one.name).name if one.name else "means over classes",
                str(one.cases),
                _number(float(dice[known].mean()) if known.any() else math.nan),
                _number(float(surface[np.isfinite(surface)].mean()) if np.isfinite(surface).any() else math.nan),
                _number(one.rho),
                _p(one.p),
                _p(one.q),
                str(int((dice[known] < bad_dice).sum())),
                _number(area),
            ]
        )
    header = ["class", "cases", "Dice", "surface Dice", "Spearman rho (score, Dice)", "p", "q",
              f"Dice under {bad_dice:g}", "AUROC for that"]  # fmt: skip
    page.table(header, rows)
    page.text("A negative rho means that odder explanations go with worse segmentations.", "note")
    mean_score, mean_dice = _row_mean(scores), _row_mean(table.dice)
    known = np.isfinite(mean_score) & np.isfinite(mean_dice)
    if known.sum() >= 4:
        curve = calibration_curve(predicted_dice(mean_score, mean_dice), mean_dice)
        picture = pictures.scatter(mean_score[known], mean_dice[known], "Each dot is a case", curve)
        page.picture(picture, "Score against Dice, and calibration of predicted Dice")
        order = np.flatnonzero(known)[np.argsort(mean_dice[known])]
        sides = (("worst", order[:5]), ("best", order[::-1][:5]))
        rows = [
            [side, table.cases[i], f"{mean_dice[i]:.3f}", f"{mean_score[i]:.3f}"]
            for side, some in sides
            for i in some.tolist()
        ]
        page.table(["segmentation", "case", "mean Dice", "mean score"], rows)


def _failures(page: Page, table: CohortTable) -> None:
    if table.failures:
        page.section("Failed cases")
        page.table(["case", "reason"], [[case, reason] for case, reason in table.failures.items()])


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
