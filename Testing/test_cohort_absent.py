"""Cohorts whose cases lack classes, or whose patients come more than once: neither may look like oddness or certainty."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cohort_samples import LABELS, table_of, write_cohort
from scipy import stats
from sklearn.metrics import roc_auc_score

from Agg2ExpLib.cohort.judge import conformal
from Agg2ExpLib.cohort.judge.baselines import FOREST
from Agg2ExpLib.cohort.judge.intervals import area_interval, median_interval
from Agg2ExpLib.cohort.judge.profile import fit_profile
from Agg2ExpLib.cohort.judge.reasons import percent_range
from Agg2ExpLib.cohort.judge.scoring import ClassScore, score_patients
from Agg2ExpLib.cohort.judge.statistics import metadata_tests, row_means, score_against_dice
from Agg2ExpLib.cohort.report import drawings, html, html_scores, pictures
from Agg2ExpLib.cohort.report.html_warning import _comparison, write_warning
from Agg2ExpLib.cohort.report.page import Page
from Agg2ExpLib.cohort.table.tables import CohortTable


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return 20 cases, every second without the aorta."""
    tables = {f"case{n:03d}": table_of(f"case{n:03d}", absent=("aorta",) * (n % 2)) for n in range(20)}
    metadata = {name: {"sex": "FM"[n % 2]} for n, name in enumerate(tables)}
    return CohortTable.read(write_cohort(tmp_path_factory.mktemp("absent") / "c", tables, metadata))


def test_alarms_on_patients_hold_their_rate_where_structures_are_absent():
    rng, count, structures, rounds = np.random.default_rng(1), 20, 16, 1500
    judged = alarms = 0
    for _ in range(rounds):
        scores = rng.standard_normal((count + 1, structures))
        scores[rng.random(scores.shape) < 0.5] = np.nan
        p, among, _ = conformal.patient_p(
            scores[:-1], scores[-1], "abcdefghijklmnop", explained=np.ones(structures, dtype=bool)
        )
        judged += conformal.rate_of(among, 0.05) > 0
        alarms += p <= 0.05 + 1e-9
    wanted = conformal.rate_of(count, 0.05)
    assert judged == rounds
    assert abs(alarms / judged - wanted) < 4 * np.sqrt(wanted / judged)


def test_a_structure_that_a_new_patient_lacks_counts_in_the_others_and_one_not_asked_for_does_not(table):
    profile = fit_profile(table, trees=20)
    known = [ClassScore("new", name, "scored", 0.5) for name in LABELS[1:3]]

    def p_of(*more):
        return score_patients(profile, [*known, *more])[0].p

    def by_hand(columns):
        both = np.vstack([profile.held_out, [0.5, 0.5, np.nan]])[:, columns]
        far = np.nanmax((both - np.nanmean(both, axis=0)) / np.nanstd(both, axis=0, ddof=1), axis=1)
        return (far >= far[-1]).mean()

    assert p_of() == pytest.approx(by_hand([0, 1]))
    assert p_of(ClassScore("new", LABELS[3], "absent")) == pytest.approx(by_hand([0, 1, 2]))


def test_which_classes_a_case_has_does_not_make_its_mean():
    """A difficult class, odd in every case and badly drawn, that every second case lacks; nothing goes with anything."""
    rng = np.random.default_rng(0)
    scores = rng.normal((0.45, 0.45, 0.45, 0.65), 0.02, (40, 4))
    dice = rng.normal((0.9, 0.9, 0.9, 0.5), 0.02, (40, 4))
    scores[::2, 3] = dice[::2, 3] = np.nan
    assert stats.spearmanr(np.nanmean(scores, axis=1), np.nanmean(dice, axis=1)).pvalue < 1e-3, "plain means do"
    means = score_against_dice(scores, dice, "abcd")[-1]
    frame = pd.DataFrame(scores)
    by_hand = ((frame - frame.mean()).mean(axis=1) + frame.mean().mean()).to_numpy()
    np.testing.assert_allclose(row_means(scores), by_hand, rtol=1e-12)
    assert means.p > 0.05


def test_means_of_whole_cases_are_plain_means():
    values = np.random.default_rng(0).random((6, 3))
    np.testing.assert_array_equal(row_means(values), values.mean(axis=1))
    np.testing.assert_array_equal(row_means(np.column_stack([values, np.full(6, np.nan)])), values.mean(axis=1))
    assert np.isnan(row_means(np.full((2, 2), np.nan))).all()


def test_a_class_that_one_sex_lacks_makes_neither_sex_odd(table):
    rng = np.random.default_rng(2)
    scores = rng.normal((0.4, 0.4, 0.7), 0.02, (20, 3))
    scores[~table.present()] = np.nan
    sex = metadata_tests(table, row_means(scores), np.zeros(20, dtype=bool))
    assert [one.test for one in sex] == ["Mann-Whitney on the score"]
    assert sex[0].p > 0.05


def test_more_scans_of_each_patient_make_no_interval_narrower(tmp_path, monkeypatch):
    monkeypatch.setattr(Page, "picture", lambda *_args, **_options: None)
    for name in ("class_boxes", "context_boxes"):
        monkeypatch.setattr(html, name, lambda *_args: None)
    for name in ("scatter", "calibration"):
        monkeypatch.setattr(pictures, name, lambda *_args: None)
    tables = {f"p{n:02d}s{k}": table_of(f"p{n:02d}") for n in range(12) for k in range(4)}
    metadata = {name: {"patient": name[:3]} for name in tables}
    dice = {name: dict.fromkeys(LABELS[1:], 0.7 + 0.2 * (int(name[1:3]) % 2)) for name in tables}
    found = CohortTable.read(write_cohort(tmp_path / "c", tables, metadata, dice))
    mass, page = found.values["mass"], Page("r")
    html._distributions(page, found, {})
    low, high = median_interval(1.0 - mass[::4, 0, 1])
    assert f"({percent_range(low, high)})".replace("-", "\u2060-\u2060").replace(" %", "\xa0%") in page.render()
    scores = 1.0 - mass[:, :, 1]
    page = Page("r")
    write_warning(page, found, {FOREST: scores}, 0.8)
    truth = found.dice[::4, 0] < 0.8
    area = roc_auc_score(truth, scores[::4, 0])
    low, high = area_interval(area, 6, 6)
    assert f">{area:.2f} ({low:.2f} to {high:.2f})<" in page.render()


def test_a_detector_that_goes_the_wrong_way_least_is_no_winner(table):
    rng = np.random.default_rng(0)
    dice = np.repeat(np.linspace(0.5, 0.9, 20)[:, None], 3, axis=1)
    given = replace(table, dice=dice)
    with_it = dice[:, 0] + 0.001 * rng.random(20)
    told, _ = _comparison(
        given, {"isolation_forest": rng.random(20), "lof": with_it, "robust_z": with_it**2}, np.arange(20)
    )
    assert told.startswith("No detector is shown"), told
    told, _ = _comparison(given, {"isolation_forest": -with_it, "lof": rng.random(20)}, np.arange(20))
    assert told.startswith("Over all classes Dice is followed most closely by isolation forest"), told


@pytest.mark.parametrize("own", [True, False])
def test_among_themselves_the_oddest_have_no_p_and_come_first_in_the_box(own):
    """Of every class one of twenty is the oddest, with p = 1 / 20: a column of these would read as findings."""
    odd = [(f"case{n}", "heart") for n in range(3)]
    scores = {pair: ClassScore(*pair, "scored", 0.6, p=0.05) for pair in odd}
    page = Page("r")
    page.summary("20 cases explained.")
    page.summary("Something for researchers.")
    html_scores._explanations(page, odd, scores, own, 20)
    text = page.render()
    assert ('<th class="number">p</th>' in text) == (not own)
    assert text.index("20 cases explained") < text.index("Cases to look at first") < text.index("Something for")


def test_the_most_usual_case_is_not_the_one_with_a_rare_class(table):
    """Two odd cases alone have a class that the others lack."""
    mass = np.full((20, 3, 4), 0.25)
    mass[:2, :2] = (0.7, 0.1, 0.1, 0.1)
    mass[2:, 2] = np.nan
    mass[2:, :2] += np.linspace(-0.01, 0.01, 18)[:, None, None]
    given = replace(table, values={**table.values, "mass": mass})
    assert drawings.most_usual(given) in range(8, 14)


def test_fishers_test_of_three_words_gives_the_same_p_each_time(table):
    rng = np.random.default_rng(3)
    words = replace(
        table, metadata={"subject_id": tuple(map(str, range(20))), "scanner": tuple("ABC"[n % 3] for n in range(20))}
    )
    score, odd = rng.random(20), np.arange(20) % 7 < 2
    assert {one.column for one in metadata_tests(words, score, odd)} == {"scanner"}, "a patient's number is not tested"
    first, again = (metadata_tests(words, score, odd)[1] for _ in range(2))
    assert first.test == "Fisher, outliers"
    assert first.p == again.p
    counts = pd.crosstab(odd, np.arange(20) % 3).to_numpy()
    assert first.p == pytest.approx(exact(counts), abs=0.02)


def exact(counts):
    """Return Fisher's p of a table of two rows, every table of the same sums counted out."""
    from itertools import product
    from math import comb

    columns, row = counts.sum(axis=0), counts[0].sum()
    weights = {
        cells: np.prod([comb(n, k) for n, k in zip(columns, cells, strict=True)], dtype=float)
        for cells in product(*(range(n + 1) for n in columns))
        if sum(cells) == row
    }
    return sum(w for w in weights.values() if w <= weights[tuple(counts[0])] * (1 + 1e-9)) / sum(weights.values())


def test_metadata_stays_with_its_case_whatever_the_order_of_patients(table):
    """Of patients 0, 1, 10, 11, ... in the order of their texts, words were put to other cases' scores."""
    score, sex = np.arange(20.0), np.array(["FM"[n > 9] for n in range(20)])
    given = replace(table, metadata={"subject": tuple(str(n) for n in range(20)), "sex": tuple(sex)})
    found = metadata_tests(given, score, np.zeros(20, dtype=bool))[0]
    assert found.value == 0.0, "no F is odder than any M"
    assert found.p == stats.mannwhitneyu(score[:10], score[10:]).pvalue
