"""The parts of the cohort's report about Dice: whether scores warn of bad segmentations, and what Dice they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import DETECTORS, FOREST
from Agg2ExpLib.cohort.judge.calibration import calibration_curve, error_of_the_mean, mean_error, predicted_dice
from Agg2ExpLib.cohort.judge.statistics import Correlation, auroc, class_ranks, row_means, score_against_dice
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.page import Page, number, p_value
from Agg2ExpLib.cohort.table.tables import CohortTable

# Of each list, as many as one still reads.
_MOST_SIDE, _MOST_CURVES = 5, 40


def write_warning(page: Page, table: CohortTable, matrices: Mapping[str, np.ndarray], bad_dice: float) -> None:
    """Write how scores go with Dice: correlations, areas under the curve, best and worst cases, and calibration."""
    page.section("Does an odd explanation warn of a bad segmentation?")
    if not np.isfinite(table.dice).any():
        page.text("No case has ground truth, so this cannot be said.", "note")
        return
    scores = matrices[FOREST]
    correlations, rows = score_against_dice(scores, table.dice, table.classes), []
    for one, (score, dice, surface) in zip(correlations, _columns(table, scores), strict=True):
        known = np.isfinite(dice)
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
                number(_warning_area(score, dice, bad_dice)),
            ]
        )
    header = ["class", "cases", "Dice", "surface Dice", "Spearman rho (score, Dice)", "p", "q",
              f"Dice under {bad_dice:g}", "AUROC for that"]  # fmt: skip
    page.table(header, rows)
    page.text("A negative rho means that odder explanations go with worse segmentations.", "note")
    page.summary(_answer(correlations[-1]))
    _detectors(page, table, matrices, bad_dice)
    missed = int((np.isfinite(table.dice) & ~np.isfinite(scores)).sum())
    if missed:
        page.text(
            f"Left out: {missed} times a structure that is there was missed, so that nothing explains it.", "note"
        )
    mean_score, mean_dice, _ = _columns(table, scores)[-1]
    known = np.isfinite(mean_score) & np.isfinite(mean_dice)
    if known.sum() >= 4:
        _best_and_worst(page, table, mean_score, mean_dice)
    _calibration(page, table, scores, (mean_score, mean_dice))


def _columns(table: CohortTable, scores: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return score, Dice and surface Dice of each class, then their means over the classes of a case that have both."""
    found = [(scores[:, i], table.dice[:, i], table.surface_dice[:, i]) for i in range(len(table.classes))]
    both = np.isfinite(scores) & np.isfinite(table.dice)
    means = [row_means(np.where(both, values, np.nan)) for values in (scores, table.dice, table.surface_dice)]
    return [*found, (means[0], means[1], means[2])]


def _warning_area(score: np.ndarray, dice: np.ndarray, bad_dice: float) -> float:
    known = np.isfinite(dice)
    return auroc(score[known], dice[known] < bad_dice)


def _answer(means: Correlation) -> str:
    if not math.isfinite(means.rho):
        return "Whether odd explanations warn cannot be said: too few cases with ground truth, or no variation."
    told = f"Spearman {means.rho:.2f} of mean score and mean Dice, p {p_value(means.p)}, {means.cases} cases"
    if means.p >= 0.05:
        return f"No sign that odd explanations go with worse segmentations here ({told})."
    if means.rho > 0:
        return f"Odd explanations go with better segmentations here, so they are no warning ({told})."
    return f"Odd explanations go with worse segmentations here ({told})."


def _detectors(page: Page, table: CohortTable, matrices: Mapping[str, np.ndarray], bad_dice: float) -> None:
    """Write the same two numbers for simpler detectors: the forest has to earn its place."""
    names = [name for name in DETECTORS if name in matrices]
    if len(names) < 2:
        return
    page.text("The same for simpler detectors, so that the forest has to earn its place:")
    found, areas = [], []
    for name in names:
        # Over the classes the ranks are averaged: scores of some detectors have no common scale.
        scores, ranks = matrices[name], class_ranks(matrices[name])
        found.append(
            [
                *score_against_dice(scores, table.dice, table.classes)[:-1],
                score_against_dice(ranks, table.dice, table.classes)[-1],
            ]
        )
        columns = [*_columns(table, scores)[:-1], _columns(table, ranks)[-1]]
        areas.append([_warning_area(score, dice, bad_dice) for score, dice, _ in columns])
    judged = bool(np.isfinite(areas).any())
    told = [DETECTORS[name] for name in names]
    header = ["class", *(f"rho, {one}" for one in told), *((f"AUROC, {one}" for one in told) if judged else ())]
    rows = [
        [name, *(number(one[i].rho) for one in found), *((number(one[i]) for one in areas) if judged else ())]
        for i, name in enumerate([*(structure(name).name for name in table.classes), "means of ranks over classes"])
    ]
    page.table(header, rows)
    overall = [one[-1] for one in found]
    warning = [j for j, one in enumerate(overall) if one.p < 0.05 and one.rho < 0]
    if warning:
        best = min(warning, key=lambda j: overall[j].rho)
        beside = f"; {told[0]} {number(overall[0].rho)}" if best else ""
        page.text(
            f"Over all classes Dice is followed most closely by: {told[best]} (rho {number(overall[best].rho)}{beside}).",
            "note",
        )


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
