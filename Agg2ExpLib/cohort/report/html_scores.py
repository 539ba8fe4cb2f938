"""The part of the cohort's report about anomaly scores: who is odd, how many chance would make so, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import FOREST, SIZES, held_out_matrices, held_out_sizes
from Agg2ExpLib.cohort.judge.conformal import PatientScore, farthest
from Agg2ExpLib.cohort.judge.profile import FEWEST, Profile, fit_profile
from Agg2ExpLib.cohort.judge.reasons import FEWEST_FOR_RANGE
from Agg2ExpLib.cohort.judge.score_files import describe_patients
from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS, ClassScore, score_matrices, score_patients, score_table
from Agg2ExpLib.cohort.judge.statistics import mean_matrix, metadata_tests, row_means
from Agg2ExpLib.cohort.judge.words import p_in_words
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.drawings import patients
from Agg2ExpLib.cohort.report.page import Page, interval, number, p_value
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError

# As many as one still reads.
_MOST_ODD, _MOST_PATIENTS, _MOST_FIRST = 25, 15, 5


def write_anomalies(
    page: Page, table: CohortTable, profile: Profile | None, kept: Mapping[str, Path]
) -> dict[str, np.ndarray] | None:
    """Write the section; return detector -> scores (cases, classes), or nothing when there are too few cases."""
    page.section("Anomalies")
    own = profile is None
    if profile is None:
        try:
            profile = fit_profile(table)
        except InputError:
            page.text(f"There are fewer than {FEWEST} cases: nothing can be said about what is usual.", "warning")
            return None
        page.text(
            "No profile was given: each case is scored against the others, by isolation forests that have not seen it. So some "
            "case is always the oddest; whether it is too odd for chance can only a reference of other patients tell "
            "(agg2exp profile fit, then --profile)."
        )
        matrices = {FOREST: profile.held_out}
        found: list[ClassScore] = []
    else:
        page.text(f"Scored against a profile of {len(profile.cases)} reference cases.")
        found = score_table(profile, table, reasons_for=0)
        matrices = score_matrices(found, table.cases, table.classes)
        known = sum(bool(one.own) for one in found)
        if known:
            page.text(
                f"{known} of {len(found)} scores are of cases that the profile was fitted with: those are held-out scores, "
                "against the other reference cases.",
                "note",
            )
    page.text(f"Isolation forests of {profile.stability_in_words()}.", "note")
    for note in profile.warnings():
        page.text(note, "warning")
    scores = matrices.setdefault(FOREST, np.full(table.dice.shape, np.nan))
    if not np.isfinite(scores).any():
        page.text("No class of these cases is in the profile.", "warning")
        return matrices
    odd = _oddest(table, scores, found)
    pairs = {(case, name) for case, name in odd}
    reasons = {
        (one.case, one.name): one
        for one in score_table(profile, table, reasons_for=pairs, with_baselines=False)
        if (one.case, one.name) in pairs
    }
    judged = score_patients(profile, found)
    if not own:
        _verdicts(page, judged, len(profile.cases))
    _explanations(page, odd, reasons, own, len(profile.cases))
    if odd and kept:
        one = patients(table, scores, kept, table.classes.index(odd[0][1]))
        if one is not None:
            page.picture(one.figure, one.caption, one.name, photo=True, first=True)
    outlying = _outliers(table, scores, judged)
    _metadata(page, table, row_means(scores), outlying, own)
    if own and np.isfinite(table.dice).any():
        whose = table.patients()
        matrices |= held_out_matrices(table.values["mass"], FEWEST, profile.seed, whose)
        matrices[SIZES] = held_out_sizes(table.volumes, table.present(), FEWEST, profile.seed, whose)
    return {name: matrix for name, matrix in matrices.items() if name == FOREST or np.isfinite(matrix).any()}


def _oddest(table: CohortTable, scores: np.ndarray, found: Sequence[ClassScore]) -> list[tuple[str, str]]:
    """Return (case, class) of the oddest explanations: by p where there is one, else by how far out in their class."""
    if found:
        by_p = sorted((one for one in found if one.status == "scored"), key=lambda one: (one.p, -one.score))
        return [(one.case, one.name) for one in by_p[:_MOST_ODD]]
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(scores)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, scores, 0).sum(axis=0) / counts
        spread = np.sqrt(np.where(known, (scores - mean) ** 2, 0).sum(axis=0) / counts)
        far = np.where(known & (spread > 0), (scores - mean) / spread, -np.inf)
    order = np.argsort(-far, axis=None, kind="stable")[:_MOST_ODD]
    rows, columns = np.unravel_index(order, far.shape)
    return [
        (table.cases[i], table.classes[j])
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if np.isfinite(far[i, j])
    ]


def _verdicts(page: Page, patients: Sequence[PatientScore], references: int) -> None:
    told = describe_patients(patients, FALSE_ALARMS, references)
    page.summary(told[:1].upper() + told[1:])
    page.text(told[:1].upper() + told[1:])
    page.text(
        "A structure is unusual when at most 5 % of usual cases have a score as high: p = (1 + reference cases at least as "
        "odd) / (reference cases + 1). A patient is unusual when at most 5 % of usual patients have a structure that lies as "
        "far out, so that looking at many structures does not make alarms.",
        "note",
    )
    order = sorted((one for one in patients if math.isfinite(one.p)), key=lambda one: (one.p, -one.unusual))
    rows = [
        [one.case, one.verdict, p_in_words(one.p), f"{one.unusual} of {one.scored}", f"{one.expected:.1f}",
         structure(one.oddest).name if one.oddest else ""]
        for one in order[:_MOST_PATIENTS]
    ]  # fmt: skip
    page.table(["patient", "as a whole", "p", "unusual structures", "by chance", "lies farthest out"], rows)


def _explanations(
    page: Page, odd: Sequence[tuple[str, str]], reasons: Mapping[tuple[str, str], ClassScore], own: bool, count: int
) -> None:
    page.text(f"The {len(odd)} oddest explanations, and what is unusual about them:")
    # Of every class one of n cases is the oddest, whose p is 1 / n: among themselves that says nothing.
    header = ["case", "class", *([] if own else ["p"]), "score", "sets it apart"]
    rows = [
        [case, structure(name).name, *([] if own else [p_in_words(reasons[case, name].p)]),
         f"{reasons[case, name].score:.3f}", _why(reasons[case, name])]
        for case, name in odd
    ]  # fmt: skip
    page.table(header, rows)
    extent = "the central 95 % of" if count >= FEWEST_FOR_RANGE else "from the lowest to the highest of"
    page.text(
        f"In brackets: {extent} the reference, the case itself left out. A region is named when it holds 1 % of the "
        "attribution and lies half a point or more outside of that.",
        "note",
    )
    if odd and own:
        case, name = odd[0]
        one = reasons[case, name]
        told = one.reasons[0].sentence(name) if one.reasons else f"{structure(name).name}, {_why(one)}"
        page.summary(f"The oddest explanation is in {case}: {told}. Every cohort has an oddest one.")
    by_case: dict[str, str] = {}
    for case, name in odd:
        by_case.setdefault(case, name)
    first = list(by_case.items())[: min(_MOST_FIRST, count // 5) if own else _MOST_FIRST]
    if first:
        page.summary(
            f"Cases to look at first: {', '.join(f'{case} ({structure(name).name})' for case, name in first)}.", 1
        )


def _outliers(table: CohortTable, scores: np.ndarray, patients: Sequence[PatientScore]) -> np.ndarray:
    """Return who counts as an outlier: unusual as a whole, or without a profile the tenth that lies farthest out."""
    if patients:
        odd = {one.case for one in patients if one.verdict == "unusual"}
        return np.array([case in odd for case in table.cases])
    far, _, _ = farthest(scores, mean_matrix(scores[:, None]).mean[0])
    known = np.isfinite(far)
    return known & (far >= np.quantile(far[known], 0.9)) if known.any() else known


def _metadata(page: Page, table: CohortTable, mean: np.ndarray, outlying: np.ndarray, own: bool) -> None:
    known = np.isfinite(mean)
    marks = [
        (table.cases[i], float(mean[i])) for i in np.argsort(-np.nan_to_num(mean, nan=-1.0))[:3].tolist() if known[i]
    ]
    page.picture(
        pictures.histogram(mean, marks, "Mean score over classes; the three oddest cases marked", "mean anomaly score"),
        "Distribution of mean anomaly scores",
        "scores",
    )
    tests = metadata_tests(table, mean, outlying)
    if not tests:
        return
    who = "the tenth that lies farthest out" if own else "patients that are unusual as a whole"
    page.text(
        f"Metadata and oddness (the mean score, and outliers: {who}, {int(outlying.sum())}); q over all of these tests:"
    )
    header = ["column", "test", "effect", "value (95 % interval)", "p", "q", ""]
    rows = [
        [one.column, one.test, one.effect,
         f"{number(one.value, 2)} {interval(one.low, one.high, 2)}" if math.isfinite(one.value) else "–",
         p_value(one.p), p_value(one.q), one.note]
        for one in tests
    ]  # fmt: skip
    page.table(header, rows)


def _why(score: ClassScore) -> str:
    told = "; ".join(reason.phrase() for reason in score.reasons)
    return told or "many small differences, no single region"
