"""Intervals cover what they say, and effects, corrections and comparisons are those of scipy or of a calculation by hand."""

from dataclasses import replace

import numpy as np
import pytest
from cohort_samples import table_of, write_cohort
from scipy import stats
from sklearn.metrics import roc_auc_score

from Agg2ExpLib.cohort.judge import intervals
from Agg2ExpLib.cohort.judge.calibration import gain_over_the_mean, predicted_dice
from Agg2ExpLib.cohort.judge.groups import Grouping, compare_groupings
from Agg2ExpLib.cohort.judge.statistics import metadata_tests, score_against_dice
from Agg2ExpLib.cohort.table.tables import CohortTable

REPEATS = 1200
# Three standard errors of a coverage of 95 % over so many repeats are 1.9 points.
COVERED = (0.93 - 0.006, 0.97 + 0.006)


@pytest.mark.parametrize("count", [6, 10, 20, 60])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_intervals_of_medians_cover(count, kind):
    rng = np.random.default_rng(count)
    draws = rng.standard_normal((REPEATS, count))
    draws, truth = (draws, 0.0) if kind == "normal" else (np.exp(1.5 * draws), 1.0)
    ends = np.array([intervals.median_interval(row) for row in draws])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert COVERED[0] <= covered <= COVERED[1]


@pytest.mark.parametrize("count", [10, 20, 60])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_intervals_of_correlations_cover(count, rho):
    rng = np.random.default_rng(count)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    first = rng.standard_normal((REPEATS, count))
    second = rho * first + np.sqrt(1 - rho**2) * rng.standard_normal((REPEATS, count))
    found = [stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    ends = np.array([intervals.correlation_interval(one, count) for one in found])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert COVERED[0] <= covered <= COVERED[1]


@pytest.mark.parametrize(("positive", "negative"), [(5, 15), (10, 50), (20, 20)])
@pytest.mark.parametrize("area", [0.5, 0.8])
def test_intervals_of_areas_cover(positive, negative, area):
    rng = np.random.default_rng(positive)
    above = rng.normal(np.sqrt(2) * stats.norm.ppf(area), 1, (REPEATS, positive, 1))
    below = rng.standard_normal((REPEATS, 1, negative))
    found = (above > below).mean(axis=(1, 2))
    ends = {one: intervals.area_interval(one, positive, negative) for one in set(found.tolist())}
    covered = np.mean([ends[one][0] <= area <= ends[one][1] for one in found.tolist()])
    assert COVERED[0] <= covered <= COVERED[1]


def test_with_too_few_there_is_no_interval():
    assert np.isnan(intervals.median_interval(np.arange(5.0))).all()
    assert np.isnan(intervals.correlation_interval(0.5, 9)).all()
    assert np.isnan(intervals.area_interval(0.7, 4, 40)).all()


def test_the_partial_correlation_is_that_of_the_residuals_of_ranks():
    rng = np.random.default_rng(0)
    third = rng.random(40)
    first, second = third + 0.3 * rng.random(40), -third + 0.4 * rng.random(40)
    count, rho, p = intervals.partial_spearman(first, second, third)
    x, y, z = (stats.rankdata(one) for one in (first, second, third))
    left = [one - np.polyval(np.polyfit(z, one, 1), z) for one in (x, y)]
    assert (count, rho) == (40, pytest.approx(np.corrcoef(*left)[0, 1], rel=1e-9))
    t = rho * np.sqrt(37 / (1 - rho**2))
    assert p == pytest.approx(2 * stats.t.sf(abs(t), 37), rel=1e-9)


def test_what_goes_with_size_only_adds_nothing_given_size():
    rng = np.random.default_rng(1)
    size = rng.random((60, 2))
    score, dice = size + 0.05 * rng.random((60, 2)), 1 - size + 0.05 * rng.random((60, 2))
    one = score_against_dice(score, dice, ("a", "b"), size)[-1]
    assert one.rho < -0.9
    assert abs(one.given_size) < 0.35
    assert one.low < one.rho < one.high


def test_differences_of_detectors_are_paired_and_an_equal_one_does_not_win():
    rng = np.random.default_rng(0)
    dice = rng.random(40)
    scores = {"good": -dice + 0.1 * rng.random(40), "bad": rng.random(40), "same": None}
    scores["same"] = scores["good"] + 1e-3 * rng.random(40)
    gaps = intervals.paired_differences(scores, intervals.spearman_with(dice), np.arange(40))
    by_pair = {(one.first, one.second): one for one in gaps}
    direct = stats.spearmanr(scores["good"], dice).statistic - stats.spearmanr(scores["bad"], dice).statistic
    assert by_pair["good", "bad"].value == pytest.approx(direct)
    assert by_pair["good", "bad"].real
    assert not by_pair["good", "same"].real


def test_the_interval_of_a_difference_covers():
    rng = np.random.default_rng(3)
    covered = []
    for repeat in range(120):
        dice = rng.standard_normal(30)
        scores = {name: dice + 1.5 * rng.standard_normal(30) for name in "ab"}
        (gap,) = intervals.paired_differences(scores, intervals.spearman_with(dice), np.arange(30), seed=repeat)
        covered.append(gap.low <= 0 <= gap.high)
    assert 0.88 <= np.mean(covered) <= 1.0


def test_scans_of_one_patient_are_drawn_together():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(10), 4)
    dice = np.repeat(rng.random(10), 4)
    scores = {"a": np.repeat(rng.random(10), 4), "b": np.repeat(rng.random(10), 4)}
    together = intervals.paired_differences(scores, intervals.spearman_with(dice), np.arange(40), patients)[0]
    apart = intervals.paired_differences(scores, intervals.spearman_with(dice), np.arange(40))[0]
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
    np.testing.assert_allclose(intervals.by_patient(np.array([1.0, 3.0, np.nan, 5.0]), np.array([0, 0, 1, 1])), [2, 5])


def test_the_area_for_differences_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, bad = rng.random(30), rng.random(30) < 0.4
    measured = intervals.area_for(bad)(scores[None], np.arange(30)[None])[0]
    assert measured == pytest.approx(roc_auc_score(bad, scores))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    names = [f"p{n:02d}" for n in range(24)]
    metadata = {name: {"sex": "FM"[n % 2], "age": str(30 + n), "site": "abc"[n % 3]} for n, name in enumerate(names)}
    tables = {name: table_of(name, ("heart", "aorta")) for name in names}
    return CohortTable.read(write_cohort(tmp_path_factory.mktemp("groups") / "cohort", tables, metadata))


def test_metadata_is_tested_on_the_score_and_on_outliers_and_corrected_together(table):
    rng = np.random.default_rng(0)
    score, odd = rng.random(24), np.arange(24) % 5 == 0
    found = {(one.column, one.test): one for one in metadata_tests(table, score, odd)}
    age, ages = found["age", "Spearman with the score"], np.arange(30.0, 54.0)
    direct = stats.spearmanr(ages, score)
    assert (age.value, age.p) == (pytest.approx(direct.statistic), pytest.approx(direct.pvalue))
    assert age.low < age.value < age.high
    sex, women = found["sex", "Mann-Whitney on the score"], np.arange(24) % 2 == 0
    direct = stats.mannwhitneyu(score[women], score[~women])
    assert (sex.p, sex.value) == (pytest.approx(direct.pvalue), pytest.approx(roc_auc_score(women, score)))
    table_2x2 = [[(odd & women).sum(), (odd & ~women).sum()], [(~odd & women).sum(), (~odd & ~women).sum()]]
    assert found["sex", "Fisher, outliers"].p == pytest.approx(stats.fisher_exact(table_2x2).pvalue)
    three = [score[np.arange(24) % 3 == k] for k in range(3)]
    assert found["site", "Kruskal-Wallis on the score"].p == pytest.approx(stats.kruskal(*three).pvalue)
    p = np.array([one.p for one in found.values()])
    np.testing.assert_allclose([one.q for one in found.values()], stats.false_discovery_control(p))
    assert "80 % power" in age.note


def test_compare_groupings_groupings_are_corrected_together_and_have_effects(table):
    tests = compare_groupings(table, [Grouping("sex"), Grouping("site")])
    everything = [one for some in tests for one in some]
    np.testing.assert_allclose(
        [one.q for one in everything], stats.false_discovery_control([one.p for one in everything])
    )
    one = next(test for test in tests[0] if (test.name, test.roi) == ("heart", "trachea"))
    values, women = table.values["mass"][:, 0, 2], np.arange(24) % 2 == 0
    assert one.effect == pytest.approx(roc_auc_score(women, values))
    assert one.low < one.effect < one.high
    assert np.isnan(tests[1][0].effect)


def test_scans_of_one_patient_are_one_value_in_a_test(table):
    doubled = table.select([*range(24), *range(24)])
    doubled = replace(
        doubled,
        cases=tuple(f"s{n}" for n in range(48)),
        metadata={**doubled.metadata, "patient": tuple(map(str, [*range(24)] * 2))},
    )
    once, twice = (compare_groupings(one, [Grouping("sex")])[0] for one in (table, doubled))
    assert [test.p for test in once] == pytest.approx([test.p for test in twice])


def test_the_power_that_is_told_is_the_power_there_is():
    rng = np.random.default_rng(0)
    area = intervals.detectable_area(16, 16)
    shift = np.sqrt(2) * stats.norm.ppf(area)
    found = [stats.mannwhitneyu(rng.normal(shift, 1, 16), rng.normal(0, 1, 16)).pvalue < 0.05 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)
    rho = intervals.detectable_correlation(32)
    pearson = 2 * np.sin(np.pi * rho / 6)
    pairs = rng.multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], size=(400, 32))
    found = [stats.spearmanr(one[:, 0], one[:, 1]).pvalue < 0.05 for one in pairs]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)


def test_calibration_concludes():
    rng = np.random.default_rng(0)
    scores = rng.random(50)
    dice = 1 - 0.5 * scores + 0.02 * rng.standard_normal(50)
    predicted = predicted_dice(scores, dice)
    gain = gain_over_the_mean(predicted, dice)
    fold = np.arange(50) % 5
    plain = np.abs(dice - np.array([dice[fold != one].mean() for one in fold]))
    assert (gain.error, gain.plain) == (pytest.approx(np.abs(predicted - dice).mean()), pytest.approx(plain.mean()))
    assert "better than the mean does" in gain.sentence()
    noise = rng.random(50)
    assert "not predict" in gain_over_the_mean(predicted_dice(noise, dice), dice).sentence()
    assert "too few" in gain_over_the_mean(np.full(4, np.nan), dice[:4]).sentence()
