"""The part of the cohort's report about anomaly scores: who is odd, and why."""

from __future__ import annotations

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import FOREST, held_out_matrices
from Agg2ExpLib.cohort.judge.profile import FEWEST, Profile, fit_profile
from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS, ClassScore, score_matrices, score_table
from Agg2ExpLib.cohort.judge.statistics import metadata_tests, row_means
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.page import Page, p_value
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError

# As many as one still reads.
_MOST_ODD = 25


def write_anomalies(page: Page, table: CohortTable, profile: Profile | None) -> dict[str, np.ndarray] | None:
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
            "No profile was given: each case is scored against the others, by forests that have not seen it (isolation forest, "
            "100 trees per class, on the mass of every region)."
        )
    else:
        page.text(f"Scored against a profile of {len(profile.cases)} reference cases.")
    for note in profile.warnings():
        page.text(note, "warning")
    found = score_table(profile, table, reasons_for=_MOST_ODD, with_baselines=not own)
    matrices = {FOREST: profile.held_out} if own else score_matrices(found, table.cases, table.classes)
    scores = matrices.setdefault(FOREST, np.full(table.dice.shape, np.nan))
    reasons = {(one.case, one.name): one for one in found}
    odd = sorted(
        ((float(scores[i, j]), case, name) for i, case in enumerate(table.cases) for j, name in enumerate(table.classes)
         if np.isfinite(scores[i, j])), reverse=True
    )[:_MOST_ODD]  # fmt: skip
    page.text(f"The {len(odd)} oddest explanations, and what is unusual about them:")
    rows = [[case, structure(name).name, f"{score:.3f}", _why(reasons[case, name])] for score, case, name in odd]
    page.table(["case", "class", "score", "relied (in brackets: central 95 % of the reference)"], rows)
    if odd:
        _, case, name = odd[0]
        one = reasons[case, name]
        told = one.reasons[0].sentence(name) if one.reasons else f"{structure(name).name}, {_why(one)}"
        page.summary(f"The oddest explanation is in {case}: {told}.")
    mean = row_means(scores)
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
        page.table(
            header, [[t.column, t.test, f"{t.statistic:.4g}", p_value(t.p), p_value(t.q), t.note] for t in tests]
        )
    if own and np.isfinite(table.dice).any():
        matrices |= held_out_matrices(table.values["mass"], FEWEST, profile.seed)
    return matrices


def _why(score: ClassScore) -> str:
    told = "; ".join(reason.phrase() for reason in score.reasons)
    return told or "no single region is outside of its reference range"
