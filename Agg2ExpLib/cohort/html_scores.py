"""The parts of the cohort's report about anomaly scores: who is odd and why, and whether that warns of a bad segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort import pictures
from Agg2ExpLib.cohort.calibration import calibration_curve, error_of_the_mean, mean_error, predicted_dice
from Agg2ExpLib.cohort.page import Page, number, p_value
from Agg2ExpLib.cohort.profile import FEWEST, Profile, fit_profile
from Agg2ExpLib.cohort.scoring import FALSE_ALARMS, ClassScore, score_table
from Agg2ExpLib.cohort.statistics import auroc, metadata_tests, score_against_dice
from Agg2ExpLib.cohort.table import CohortTable
from Agg2ExpLib.errors import InputError

# Of each list, as many as one still reads.
_MOST_ODD, _MOST_SIDE, _MOST_CURVES = 25, 5, 40


def write_anomalies(page: Page, table: CohortTable, profile: Profile | None) -> np.ndarray | None:
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
    page.table(["case", "class", "score", "relied (in brackets: central 95 % of the reference)"], rows)
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
        page.table(
            header, [[t.column, t.test, f"{t.statistic:.4g}", p_value(t.p), p_value(t.q), t.note] for t in tests]
        )
    return scores


def _why(score: ClassScore) -> str:
    told = "; ".join(reason.phrase() for reason in score.reasons)
    return told or "no single region is outside of its reference range"


def _matrix(table: CohortTable, values: Sequence[float]) -> np.ndarray:
    return np.array(values).reshape(len(table.classes), len(table.cases)).T


def _row_mean(values: np.ndarray) -> np.ndarray:
    counts = np.isfinite(values).sum(axis=1)
    return np.where(np.isfinite(values), values, 0.0).sum(axis=1) / np.where(counts > 0, counts, np.nan)


def write_warning(page: Page, table: CohortTable, scores: np.ndarray, bad_dice: float) -> None:
    """Write how scores go with Dice: correlations, areas under the curve, best and worst cases, and calibration."""
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
                number(float(dice[known].mean()) if known.any() else math.nan),
                number(float(surface[np.isfinite(surface)].mean()) if np.isfinite(surface).any() else math.nan),
                number(one.rho),
                p_value(one.p),
                p_value(one.q),
                str(int((dice[known] < bad_dice).sum())),
                number(area),
            ]
        )
    header = ["class", "cases", "Dice", "surface Dice", "Spearman rho (score, Dice)", "p", "q",
              f"Dice under {bad_dice:g}", "AUROC for that"]  # fmt: skip
    page.table(header, rows)
    page.text("A negative rho means that odder explanations go with worse segmentations.", "note")
    mean_score, mean_dice = _row_mean(scores), _row_mean(table.dice)
    known = np.isfinite(mean_score) & np.isfinite(mean_dice)
    if known.sum() >= 4:
        _best_and_worst(page, table, mean_score, mean_dice)
    _calibration(page, table, scores, (mean_score, mean_dice))


def _best_and_worst(page: Page, table: CohortTable, mean_score: np.ndarray, mean_dice: np.ndarray) -> None:
    known = np.isfinite(mean_score) & np.isfinite(mean_dice)
    picture = pictures.scatter(mean_score[known], mean_dice[known], "Each dot is a case: means over its classes")
    page.picture(picture, "Mean score against mean Dice")
    order = np.flatnonzero(known)[np.argsort(mean_dice[known])]
    most = min(_MOST_SIDE, len(order) // 2)
    sides = (("worst", order[:most]), ("best", order[::-1][:most]))
    rows = [
        [side, table.cases[i], f"{mean_dice[i]:.3f}", f"{mean_score[i]:.3f}"]
        for side, some in sides
        for i in some.tolist()
    ]
    page.table(["segmentation", "case", "mean Dice", "mean score"], rows)


def _calibration(page: Page, table: CohortTable, scores: np.ndarray, means: tuple[np.ndarray, np.ndarray]) -> None:
    """Write how well Dice can be told from the score, over all classes and for each."""
    page.section("Calibration of predicted Dice")
    pairs = [("means over classes", *means)]
    pairs += [(structure(name).name, scores[:, i], table.dice[:, i]) for i, name in enumerate(table.classes)]
    curves, summary, rows = [], [], []
    for name, score, dice in pairs:
        predicted = predicted_dice(score, dice)
        curve = calibration_curve(predicted, dice)
        if not curve:
            continue
        curves.append((name, curve))
        cases, error, plain = (f(predicted, dice) for f in (_count, mean_error, error_of_the_mean))
        summary.append([name, str(cases), number(error), number(plain)])
        rows += [
            [name if k == 0 else "", str(one.count), number(one.predicted), number(one.observed),
             f"{number(one.low)} to {number(one.high)}" if np.isfinite(one.low) else "–"]
            for k, one in enumerate(curve)
        ]  # fmt: skip
    if not curves:
        page.text("There are fewer than ten cases with ground truth of any class: too few to predict Dice.", "note")
        return
    page.text(
        "Each case's Dice is predicted from its anomaly score by a falling curve fitted to other cases (five folds). Where a "
        "curve is near the grey line, a predicted Dice may be read as it stands; a curve that does not rise says that the "
        "score does not tell good from bad."
    )
    page.picture(pictures.calibration(curves[:_MOST_CURVES]), "Calibration of predicted Dice, over all and per class")
    page.text(
        "A useful prediction errs less than one that gives every case the same Dice, the mean (last column).", "note"
    )
    page.table(["class", "cases", "mean error of predicted Dice", "mean error of the mean Dice"], summary)
    page.fold("The groups of cases behind the curves")
    page.table(["class", "cases", "predicted", "observed", "95 % confidence"], rows, most=1000)
    page.unfold()
    left = [name for name, *_ in pairs if name not in dict(curves)]
    if left:
        page.text(f"Fewer than ten cases with ground truth, so not predicted: {', '.join(left)}.", "note")


def _count(predicted: np.ndarray, observed: np.ndarray) -> int:
    return int((np.isfinite(predicted) & np.isfinite(observed)).sum())
