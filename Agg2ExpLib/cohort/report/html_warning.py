"""The parts of the cohort's report about Dice: whether scores warn of bad segmentations, and what Dice they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.baselines import DETECTORS, FOREST, SIZES
from Agg2ExpLib.cohort.judge.calibration import calibration_curve, gain_over_the_mean, predicted_dice
from Agg2ExpLib.cohort.judge.intervals import (
    FEWEST_EVENTS,
    FEWEST_FOR_CORRELATION,
    area_interval,
    by_patient,
    correlation_interval,
    paired_differences,
    spearman_with,
)
from Agg2ExpLib.cohort.judge.statistics import Correlation, auroc, class_ranks, row_means, score_against_dice
from Agg2ExpLib.cohort.report import pictures
from Agg2ExpLib.cohort.report.page import Page, interval, number, p_value
from Agg2ExpLib.cohort.table.tables import CohortTable

# Of each list, as many as one still reads.
_MOST_SIDE, _MOST_CURVES = 5, 40


def write_warning(page: Page, table: CohortTable, matrices: Mapping[str, np.ndarray], bad_dice: float) -> None:
    """Write how scores go with Dice: correlations, areas under the curve, best and worst cases, and calibration."""
    page.section("Does an odd explanation warn of a bad segmentation?")
    if not np.isfinite(table.dice).any():
        page.text("No case has ground truth, so this cannot be said.", "note")
        return
    scores, whose = matrices[FOREST], table.patients()
    correlations, rows = score_against_dice(scores, table.dice, table.classes, matrices.get(SIZES), whose), []
    for one, column in zip(correlations, _columns(table, scores), strict=True):
        score, dice, surface = (by_patient(values, whose) for values in column)
        known = np.isfinite(dice)
        rows.append(
            [
                structure(one.name).name if one.name else "means over classes",
                str(one.cases),
                number(float(dice[known].mean()) if known.any() else math.nan),
                number(float(surface[np.isfinite(surface)].mean()) if np.isfinite(surface).any() else math.nan),
                f"{number(one.rho, 2)} {interval(one.low, one.high, 2)}".strip(),
                p_value(one.p),
                p_value(one.q),
                f"{number(one.given_size, 2)} {interval(one.given_size_low, one.given_size_high, 2)}".strip(),
                str(int((dice[known] < bad_dice).sum())),
                _area_in_words(score, dice, bad_dice),
            ]
        )
    header = ["class", "cases", "Dice", "surface Dice", "Spearman rho (score, Dice), 95 % interval", "p", "q",
              "rho given sizes", f"Dice under {bad_dice:g}", "AUROC for that, 95 % interval"]  # fmt: skip
    page.table(header, rows)
    page.text(
        "A negative rho means that odder explanations go with worse segmentations. Rho given sizes is the partial correlation "
        "at equal scores of a forest that sees the sizes of the regions only: near 0, the explanation adds nothing to them. No "
        f"interval with fewer than {FEWEST_FOR_CORRELATION} cases, no area with fewer than {FEWEST_EVENTS} good or bad ones."
        + " Means over classes are as if each case had every class."
        * (not table.present().all()),
        "note",
    )
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


def _sides(score: np.ndarray, dice: np.ndarray, bad_dice: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which cases count, and which of them have a bad segmentation."""
    known = np.isfinite(dice) & np.isfinite(score)
    return known, known & (dice < bad_dice)


def _area_in_words(score: np.ndarray, dice: np.ndarray, bad_dice: float) -> str:
    known, bad = _sides(score, dice, bad_dice)
    sides = int(bad.sum()), int((known & ~bad).sum())
    if min(sides) < FEWEST_EVENTS:
        return f"{min(sides)} {'bad' if sides[0] <= sides[1] else 'good'}: too few" if min(sides) else "–"
    area = auroc(score[known], bad[known])
    return f"{number(area, 2)} {interval(*area_interval(area, *sides), 2)}"


def _answer(means: Correlation) -> str:
    if not math.isfinite(means.rho):
        return "Whether odd explanations warn cannot be said: too few cases with ground truth, or no variation."
    within = f" {interval(means.low, means.high, 2)}" if math.isfinite(means.low) else ""
    told = f"Spearman {means.rho:.2f}{within} of mean score and mean Dice, p {p_value(means.p)}, {means.cases} cases"
    if means.p >= 0.05 or means.cases < FEWEST_FOR_CORRELATION:
        few = (
            f"{means.cases} cases are too few to say whether"
            if means.cases < FEWEST_FOR_CORRELATION
            else "No sign that"
        )
        return f"{few} odd explanations go with worse segmentations here ({told})."
    if means.rho > 0:
        return f"Odd explanations go with better segmentations here, so they are no warning ({told})."
    answer = f"Odd explanations go with worse segmentations here ({told})"
    if not math.isfinite(means.given_size):
        return f"{answer}; whether more than the sizes of the structures do, cannot be said."
    given = f"rho {means.given_size:.2f} {interval(means.given_size_low, means.given_size_high, 2)}".strip()
    if means.given_size_p < 0.05 and means.given_size < 0:
        return f"{answer}, and more than the sizes of the structures alone do ({given} at equal sizes)."
    return f"{answer}, but the sizes of the structures may explain it ({given} at equal sizes)."


def _detectors(page: Page, table: CohortTable, matrices: Mapping[str, np.ndarray], bad_dice: float) -> None:
    """Write the same two numbers for simpler detectors and for sizes alone: the forest has to earn its place."""
    names = [name for name in DETECTORS if name in matrices]
    if len(names) < 2:
        return
    page.text("The same for simpler detectors, and for the sizes of the regions alone, which know no explanation:")
    whose, found, areas = table.patients(), [], []
    means: dict[str, np.ndarray] = {}
    for name in names:
        # Over the classes the ranks are averaged: scores of some detectors have no common scale.
        scores, ranks = matrices[name], class_ranks(matrices[name])
        by_class = score_against_dice(scores, table.dice, table.classes, None, whose)[:-1]
        found.append([*by_class, score_against_dice(ranks, table.dice, table.classes, None, whose)[-1]])
        columns = [*_columns(table, scores)[:-1], _columns(table, ranks)[-1]]
        areas.append(
            [_area_in_words(by_patient(score, whose), by_patient(dice, whose), bad_dice) for score, dice, _ in columns]
        )
        means[name] = columns[-1][0]
    told = [DETECTORS[name] for name in names]
    labels = [*(structure(name).name for name in table.classes), "means of ranks over classes"]
    rows = [
        [label, *(f"{number(one[i].rho, 2)} {interval(one[i].low, one[i].high, 2)}".strip() for one in found)]
        for i, label in enumerate(labels)
    ]
    page.table(["class", *(f"rho, {one}" for one in told)], rows)
    if any("(" in area for row in areas for area in row):
        rows = [[label, *(one[i] for one in areas)] for i, label in enumerate(labels)]
        shown = [row for row in rows if any("(" in area for area in row[1:])]
        page.table(["class", *(f"AUROC, {one}" for one in told)], shown)
    page.text(*_comparison(table, means, whose))


def _comparison(table: CohortTable, means: Mapping[str, np.ndarray], whose: np.ndarray) -> tuple[str, str]:
    """Say which detector follows Dice most closely, if one does."""
    dice = row_means(np.where(np.isfinite(np.stack(list(means.values()))).any(axis=0)[:, None], table.dice, np.nan))
    known = np.isfinite(dice) & np.logical_and.reduce([np.isfinite(one) for one in means.values()])
    gaps = paired_differences(means, spearman_with(dice), np.flatnonzero(known), whose)
    if not gaps:
        return "There are too few cases to compare the detectors with each other.", "note"
    beaten = {name: 0 for name in means}
    for gap in gaps:
        if gap.real:
            beaten[gap.first if gap.value < 0 else gap.second] += 1
    count, ends = len(np.unique(whose[known])), spearman_with(dice)
    winners = [
        name
        for name, beats in beaten.items()
        if beats == len(means) - 1
        # The lowest of correlations that go the wrong way, or none, is no warning.
        and correlation_interval(float(ends(means[name][known][None], np.flatnonzero(known)[None])[0]), count)[1] < 0
    ]
    told = [
        f"{DETECTORS[gap.first]} - {DETECTORS[gap.second]} {gap.value:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})"
        for gap in gaps
        if gap.real or FOREST in (gap.first, gap.second)
    ]
    answer = (
        f"Over all classes Dice is followed most closely by {DETECTORS[winners[0]]}"
        if winners
        else "No detector is shown to follow low Dice more closely than all the others"
    )
    return f"{answer}. Differences of rho on the same cases (95 % for all pairs together): {'; '.join(told)}.", "note"


def _best_and_worst(page: Page, table: CohortTable, mean_score: np.ndarray, mean_dice: np.ndarray) -> None:
    known = np.isfinite(mean_score) & np.isfinite(mean_dice)
    picture = pictures.scatter(mean_score[known], mean_dice[known], "Each dot is a case: means over its classes")
    page.picture(picture, "Mean score against mean Dice", "score_and_dice")
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
    curves, summary, rows, gains, whose = [], [], [], [], table.patients()
    for name, score, dice in pairs:
        predicted = predicted_dice(score, dice, patients=whose)
        curve = calibration_curve(predicted, dice)
        if not curve:
            continue
        curves.append((name, curve))
        gain = gain_over_the_mean(predicted, dice, patients=whose)
        gains.append(gain)
        summary.append(
            [name, str(gain.cases), number(gain.error), number(gain.plain),
             f"{number(gain.plain - gain.error)} {interval(gain.low, gain.high)}".strip(),
             "better" if gain.low > 0 else "worse" if gain.high < 0 else "not better"]
        )  # fmt: skip
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
    page.picture(
        pictures.calibration(curves[:_MOST_CURVES]),
        "Calibration of predicted Dice, over all and per class",
        "calibration",
    )
    page.text(f"Over all classes: {gains[0].sentence()}" if summary[0][0] == pairs[0][0] else gains[0].sentence())
    header = [
        "class",
        "cases",
        "mean error of predicted Dice",
        "of the mean of other cases",
        "gain (95 % interval)",
        "",
    ]
    page.table(header, summary)
    page.fold("The groups of cases behind the curves")
    page.table(["class", "cases", "predicted", "observed", "95 % confidence"], rows, most=1000)
    page.unfold()
    left = [name for name, *_ in pairs if name not in dict(curves)]
    if left:
        page.text(f"Fewer than ten cases with ground truth, so not predicted: {', '.join(left)}.", "note")
