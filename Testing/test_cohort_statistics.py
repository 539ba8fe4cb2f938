"""Statistics of a cohort are scipy's and scikit-learn's own numbers; published tables; the report."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from cohort_samples import LABELS, table_of, write_cohort, write_large_cohort
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge.baselines import held_out_baselines, held_out_matrices, mahalanobis
from Agg2ExpLib.cohort.judge.calibration import calibration_curve, predicted_dice
from Agg2ExpLib.cohort.judge.groups import Grouping, group_tests
from Agg2ExpLib.cohort.judge.statistics import (
    Correlation,
    auroc,
    corrected,
    mean_matrix,
    outliers,
    score_against_dice,
)
from Agg2ExpLib.cohort.report.html_warning import _answer
from Agg2ExpLib.cohort.report.page import Page
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    names = [f"p{n:02d}" for n in range(14)]
    metadata = {name: {"sex": "FM"[n % 2], "age": str(30 + n), "site<b>": "x"} for n, name in enumerate(names)}
    dice = {name: {"heart": rng.random(), "aorta": rng.random()} for name in names}
    tables = {
        name: table_of(name, ("heart", "aorta"), absent=("aorta",) if n == 3 else ()) for n, name in enumerate(names)
    }
    return write_cohort(tmp_path_factory.mktemp("statistics") / "cohort", tables, metadata, dice)


@pytest.fixture(scope="module")
def table(folder):
    return CohortTable.read(folder)


def test_the_cohort_is_read_as_it_was_written(table):
    assert (len(table.cases), table.classes, table.rois) == (14, ("heart", "aorta"), LABELS)
    np.testing.assert_array_equal(table.values["mass"][5, 0], table_of("p05", ("heart", "aorta")).values["mass"][0])
    assert np.isnan(table.values["mass"][3, 1]).all()
    assert table.present().sum() == 27
    np.testing.assert_allclose(table.context()[:, 0], 1 - table.values["mass"][:, 0, 1])


def test_means_and_intervals_are_scipys_and_leave_absent_classes_out(table):
    found = mean_matrix(table.values["mass"])
    rows = np.delete(table.values["mass"][:, 1], 3, axis=0)
    interval = stats.t.interval(0.95, 12, loc=rows.mean(axis=0), scale=stats.sem(rows, axis=0))
    assert found.counts[1].tolist() == [13] * 4
    np.testing.assert_allclose(found.mean[1], rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose((found.low[1], found.high[1]), interval, rtol=1e-12)


@given(arrays(float, (7, 2, 3), elements=st.floats(0, 1)), st.integers(0, 6))
def test_a_case_without_the_class_changes_nothing(cube, case):
    without = cube.copy()
    without[case, 1] = np.nan
    found, expected = mean_matrix(without), mean_matrix(np.delete(cube, case, axis=0))
    np.testing.assert_allclose(found.mean[1], expected.mean[1], atol=1e-12)
    np.testing.assert_allclose(found.low[1], expected.low[1], atol=1e-12)


def test_outliers_are_named_from_the_farthest(table):
    values = np.array([1.0, 1.1, 1.2, 1.1, 9.0, 1.0, -5.0, np.nan])
    assert outliers(values, list("abcdefgh")) == [("e", 9.0), ("g", -5.0)]


def test_spearman_and_its_correction_are_scipys(table):
    rng = np.random.default_rng(1)
    scores = rng.random(table.dice.shape)
    rows = score_against_dice(scores, table.dice, table.classes)
    direct = [stats.spearmanr(scores[:, i], table.dice[:, i]) for i in range(2)]
    assert [(row.rho, row.p) for row in rows[:2]] == [(one.statistic, one.pvalue) for one in direct]
    assert [row.q for row in rows[:2]] == stats.false_discovery_control([one.pvalue for one in direct]).tolist()
    means = stats.spearmanr(scores.mean(axis=1), table.dice.mean(axis=1))
    assert (rows[2].name, rows[2].rho, rows[2].p) == ("", pytest.approx(means.statistic), pytest.approx(means.pvalue))


def test_scores_that_do_not_vary_correlate_with_nothing(table):
    rows = score_against_dice(np.ones(table.dice.shape), table.dice, table.classes)
    assert all(np.isnan(row.rho) for row in rows)


def test_the_area_under_the_curve_is_scikit_learns_and_one_side_alone_has_none():
    rng = np.random.default_rng(2)
    scores, bad = rng.random(30), rng.random(30) < 0.4
    assert auroc(scores, bad) == roc_auc_score(bad, scores)
    assert np.isnan(auroc(scores, np.zeros(30, bool)))


def grouped(table, text):
    return {name: len(index) for name, index in Grouping.parse(text, table).split(table).items()}


def test_groups_are_compared_as_scipy_does_and_corrected_together(table):
    tests = group_tests(table, Grouping("sex"))
    assert len(tests) == 2 * (1 + 3), "context, and every other region: the own share is the context turned round"
    one = next(test for test in tests if (test.name, test.roi) == ("heart", "trachea"))
    values = table.values["mass"][:, 0, 2]
    direct = stats.mannwhitneyu(values[::2], values[1::2])
    assert (one.statistic, one.p) == (direct.statistic, direct.pvalue)
    by_p = stats.false_discovery_control([test.p for test in tests])
    np.testing.assert_allclose([test.q for test in tests], by_p)


def test_bands_of_ones_own_are_compared_as_scipy_does_and_corrected_together(table):
    tests = group_tests(table, Grouping.parse("age:35,39,100", table))
    assert list(tests[0].medians) == ["under 35", "35 to under 39", "39 to under 100"]
    one = next(test for test in tests if (test.name, test.roi) == ("heart", ""))
    context = 1 - table.values["mass"][:, 0, 1]
    direct = stats.kruskal(context[:5], context[5:9], context[9:])
    assert (one.statistic, one.p) == (direct.statistic, direct.pvalue)
    assert [test.q for test in tests] == stats.false_discovery_control([test.p for test in tests]).tolist()


def test_a_band_begins_at_its_edge_and_empty_bands_are_not_listed(table):
    assert grouped(table, "age:10,35,39") == {"10 to under 35": 5, "35 to under 39": 4, "39 and over": 5}


def test_cases_without_a_value_are_in_no_group_and_counted(table):
    some = replace(table, metadata={"age": ("", "nan", *map(str, range(40, 52)))})
    assert grouped(some, "age:46") == {"under 46": 6, "46 and over": 6}
    assert Grouping("age", (46.0,)).missing(some) == 2


def test_numbers_of_few_values_are_groups_in_the_order_of_numbers(table):
    assert list(grouped(replace(table, metadata={"dose": ("10", "9") * 7}), "dose")) == ["9", "10"]


def test_numbers_of_many_values_are_split_at_their_median(table):
    assert grouped(table, "age") == {"up to 36.5": 7, "over 36.5": 7}


def test_a_column_with_a_colon_in_its_name_is_meant_as_it_stands(table):
    assert grouped(replace(table, metadata={"scan:1": ("a", "b") * 7}), "scan:1") == {"a": 7, "b": 7}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sx", r"no column 'sx': did you mean sex\?"),
        ("ag:50,65", r"no column 'ag': did you mean age\?"),
        ("age:50,old", r"'50,old' are no numbers; write COLUMN:50,65,80"),
        ("age:65,50", "each larger than the one before"),
        ("age:nan", "each larger than the one before"),
        ("sex:50", r"column 'sex' holds 'F'; bands need numbers"),
    ],
)
def test_groups_that_cannot_be_are_refused(table, text, told):
    with pytest.raises(InputError, match=told):
        Grouping.parse(text, table)


def test_correction_leaves_tests_out_that_could_not_be_made():
    np.testing.assert_allclose(corrected(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])


def test_predicted_dice_is_held_out_and_its_curve_has_equal_bins():
    scores = np.linspace(0.3, 0.7, 40)
    dice = 1 - scores
    predicted = predicted_dice(scores, dice)
    assert np.abs(predicted - dice).max() < 0.05
    assert np.abs(predicted - dice).max() > 0
    assert [one.count for one in calibration_curve(predicted, dice)] == [8] * 5


def test_a_calibration_curve_has_scipys_intervals_and_keeps_equal_predictions_together():
    rng = np.random.default_rng(4)
    predicted = np.array([0.6] * 7 + [0.7] * 8 + [0.9] * 9 + [np.nan])
    observed = np.append(rng.uniform(0.4, 0.8, 24), 0.1)
    curve = calibration_curve(predicted, observed)
    assert [(one.predicted, one.count) for one in curve] == [(pytest.approx(0.6), 7), (pytest.approx(0.7), 8),
                                                             (pytest.approx(0.9), 9)]  # fmt: skip
    interval = stats.t.interval(0.95, 7, loc=observed[7:15].mean(), scale=stats.sem(observed[7:15]))
    assert (curve[1].low, curve[1].high) == pytest.approx(interval, rel=1e-12)


def test_few_cases_make_few_groups_and_none_no_curve():
    predicted = np.linspace(0.5, 0.9, 12)
    assert [one.count for one in calibration_curve(predicted, predicted)] == [6, 6]
    assert np.isnan(calibration_curve(predicted[:1], predicted[:1])[0].low)
    assert calibration_curve(np.full(3, np.nan), np.ones(3)) == []


def test_a_table_that_mixes_models_or_repeats_rows_is_refused(folder, tmp_path):
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, change, told in (
        ("cases.parquet", lambda t: t.set_column(4, "model_sha256", pa.array(["x", *t["model_sha256"].to_pylist()[1:]])), "mixes"),
        ("importance.parquet", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "gives a row twice"),
        ("importance.parquet", lambda t: t.slice(8), "list different cases"),
    ):  # fmt: skip
        copy = tmp_path / told.replace(" ", "")
        shutil.copytree(folder, copy)
        pq.write_table(change(pq.read_table(copy / name)), copy / name)
        with pytest.raises(InputError, match=told):
            CohortTable.read(copy)


def test_a_damaged_table_is_named(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "c")
    path = tmp_path / "c" / "importance.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"importance\.parquet cannot be read"):
        CohortTable.read(tmp_path / "c")


@pytest.fixture
def undrawn(monkeypatch):
    """Spare the pictures: test_cohort_figures.py has them drawn."""
    monkeypatch.setattr("Agg2ExpLib.cohort.report.page.rendered", lambda *_: b"drawn")


@pytest.mark.usefixtures("undrawn")
def test_the_report_is_one_file_that_needs_nothing_else_and_names_what_it_shows(folder, tmp_path, capsys):
    out = tmp_path / "report.html"
    words = [
        "cohort",
        "report",
        str(folder),
        "--out",
        str(out),
        "--group",
        "sex",
        "--group",
        "age:35,40",
        "--bad-dice",
        "0.5",
    ]
    assert main([*words, "--progress", "none"]) == 0
    text = out.read_text(encoding="utf-8")
    for heading in (
        "Global importance",
        "Context and distributions",
        "By sex",
        "By age",
        "Anomalies",
        "Does an odd explanation",
        "Calibration of predicted Dice, over all and per class",
        "rho, Mahalanobis",
        "rho, sizes only",
        "35 to under 40: 5 cases",
        "for all 16 of them in this report",
    ):
        assert heading in text
    assert text.count('<img class="chart"') >= 6
    summary = re.search(r'<ul class="summary">(.*?)</ul>', text).group(1)
    for told in (
        "14 cases explained",
        "Size accounted for, ",
        "The oddest explanation is in",
        "By sex: ",
    ):
        assert told in summary
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "<script" not in text
    assert main(["cohort", "report", str(folder), "--out", str(out), "--group", "colour"]) == 2
    assert "no column 'colour'" in capsys.readouterr().err


def test_columns_of_numbers_stand_to_the_right_and_sentences_that_begin_with_one_do_not():
    page = Page("x")
    page.table(["n", "p", "interval", "why"], [["1", "–", "14 % (9.5-20 %)", "2.9 % on lung (0.6-2.3 %); 29 % on background"],
                                               ["-2.5", "1.0e-05", "0.91 to 0.95", "no region"]])  # fmt: skip
    text = page.render()
    assert re.findall(r'<th class="number">(\w+)', text) == ["n", "p", "interval"]
    assert len(re.findall('<td class="number">', text)) == 6
    page = Page("y")
    page.table(["rho"], [["-0.25"], ["-0.5"]])
    assert '<th class="number">rho' in page.render()


def test_baselines_of_the_reference_itself_have_not_seen_the_case(rng):
    from sklearn.covariance import LedoitWolf
    from sklearn.neighbors import LocalOutlierFactor

    features = rng.normal(size=(20, 4))
    features[3] += 6.0
    found = held_out_baselines(features, seed=0)
    for i in range(len(features)):
        others = np.delete(features, i, axis=0)
        lof = LocalOutlierFactor(n_neighbors=18, novelty=True).fit(others)
        scaled = [(part - others.mean(axis=0)) / others.std(axis=0) for part in (others, features[i : i + 1])]
        middle = np.median(others, axis=0)
        spread = 1.4826 * np.median(np.abs(others - middle), axis=0)
        assert found["lof"][i] == pytest.approx(-lof.score_samples(features[i : i + 1])[0], rel=1e-12)
        assert found["mahalanobis"][i] == pytest.approx(
            LedoitWolf().fit(scaled[0]).mahalanobis(scaled[1])[0] ** 0.5, rel=1e-9
        )
        assert found["robust_z"][i] == pytest.approx(np.max(np.abs(features[i] - middle) / spread), rel=1e-12)
    assert all(scores.argmax() == 3 for scores in found.values())


def test_baselines_of_many_cases_are_held_out_in_folds(rng):
    features = rng.normal(size=(200, 3))
    features[7] += 20.0
    found = held_out_baselines(features, seed=0)
    # Within the cohort its own value would stretch the spread and the score be smaller.
    assert all(np.isfinite(scores).all() and scores.argmax() == 7 for scores in found.values())
    assert found["mahalanobis"][7] > 1.3 * mahalanobis(features, features)[7]


def test_baselines_leave_out_cases_that_lack_a_class(rng):
    features = rng.normal(size=(12, 2, 3))
    features[[0, 5], 0] = np.nan
    features[2:, 1] = np.nan
    found = held_out_matrices(features, 3, seed=0)
    there = np.setdiff1d(np.arange(12), [0, 5])
    assert len(found) > 1
    for name, scores in found.items():
        assert np.flatnonzero(np.isfinite(scores[:, 0])).tolist() == there.tolist()
        np.testing.assert_array_equal(scores[there, 0], held_out_baselines(features[there, 0], 0)[name])
        assert np.isnan(scores[:, 1]).all(), "two cases have the second class: too few"


def test_the_answer_at_the_top_says_what_the_numbers_say():
    def answer(rho, p):
        return _answer(Correlation("", 40, rho, p, math.nan))

    assert answer(-0.6, 1e-5).startswith("Odd explanations go with worse segmentations here (Spearman -0.60")
    sized = Correlation("", 40, -0.6, 1e-5, math.nan, -0.8, -0.3, -0.1, 0.5, -0.4, 0.2)
    assert "but the sizes of the structures may explain it (rho -0.10 (-0.40 to 0.20)" in _answer(sized)
    assert "and more than the sizes" in _answer(replace(sized, given_size=-0.5, given_size_p=0.01))
    assert answer(-0.1, 0.4).startswith("No sign")
    assert "no warning" in answer(0.6, 0.001)
    assert "cannot be said" in answer(math.nan, math.nan)


@pytest.mark.usefixtures("undrawn")
def test_names_in_a_report_are_text_and_never_markup(table, tmp_path):
    from Agg2ExpLib.cohort.report.html import write_report

    evil = "<img src=x onerror=alert(1)>"
    few = replace(table.select([0, 1]), failures={evil: evil}, cases=(evil, "b"))
    text = write_report(few, tmp_path / "r.html").read_text(encoding="utf-8")
    assert evil not in text
    assert "&lt;img src=x" in text
    assert "fewer than 3 cases" in text


@pytest.mark.slow
def test_ten_thousand_cases_are_fitted_scored_and_reported_in_two_minutes_and_two_gigabytes(tmp_path):
    import resource
    import subprocess
    import sys

    reference, new = (write_large_cohort(tmp_path / name, 10_000, seed) for seed, name in enumerate(("ref", "new")))
    program = f"""
import resource
from Agg2ExpLib.cli import main
for words in (["profile", "fit", {str(reference)!r}, "--out", {str(tmp_path / "p.npz")!r}],
              ["profile", "score", {str(new)!r}, "--profile", {str(tmp_path / "p.npz")!r}, "--out", {str(tmp_path / "s.csv")!r}],
              ["cohort", "report", {str(reference)!r}, "--out", {str(tmp_path / "r.html")!r}, "--group", "sex"]):
    assert main([*words, "--progress", "none"]) == 0
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The processor's seconds: what else a machine does is no matter of ours.
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 120
    assert used.ru_maxrss < 2 * 1024**2
    assert (tmp_path / "s.csv").read_text().count("\n") == 160_001
