"""Forests, profiles and scores: the same numbers as scikit-learn, refused files, and reasons that name the region."""

import itertools
import json
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from cohort_samples import LABELS, table_of, write_cohort
from sklearn.ensemble import IsolationForest

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge import forest as forests
from Agg2ExpLib.cohort.judge.baselines import baseline_scorers
from Agg2ExpLib.cohort.judge.profile import Profile, fit_profile
from Agg2ExpLib.cohort.judge.reasons import Reason
from Agg2ExpLib.cohort.judge.score_files import describe_scores, write_scores
from Agg2ExpLib.cohort.judge.scoring import score_table
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError


def moved(table, name, roi, share):
    """Give a region a share of a class's mass, taken from all others alike."""
    mass = table.values["mass"].copy()
    i, j = table.classes.index(name), table.rois.index(roi)
    mass[i] *= (1 - share) / (1 - mass[i, j])
    mass[i, j] = share
    return replace(table, values={**table.values, "mass": mass})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "cohort"
    return CohortTable.read(write_cohort(folder, {f"healthy{n}": table_of(f"healthy{n}") for n in range(16)}))


@pytest.fixture(scope="module")
def profile(reference):
    return fit_profile(reference, seed=3)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    rois = (*LABELS, "pleural_effusion")
    tables = {
        "usual": table_of("usual"),
        "shifted": moved(table_of("shifted"), "heart", "trachea", 0.7),
        "ill": moved(table_of("ill", rois=rois), "heart", "pleural_effusion", 0.14),
        "lacking": table_of("lacking", absent=("aorta",)),
    }
    return CohortTable.read(write_cohort(tmp_path_factory.mktemp("new") / "cohort", tables))


def of(scores, case, name):
    return next(one for one in scores if (one.case, one.name) == (case, name))


def test_scores_are_those_of_scikit_learns_forest_but_for_the_choice_of_trees(profile, reference, new):
    scores = score_table(profile, new)
    for i, name in enumerate(reference.classes):
        direct = (
            -IsolationForest(n_estimators=200, random_state=3)
            .fit(reference.values["mass"][:, i])
            .score_samples(new.values["mass"][[new.cases.index("usual")], i, : len(LABELS)])
        )
        one = of(scores, "usual", name)
        assert one.score == pytest.approx(direct[0], abs=4 * one.error * (1 + 1000 / 200) ** 0.5)


def test_trees_are_those_of_scikit_learn_over_many():
    rows = np.random.default_rng(0).dirichlet(np.arange(1, 7) / 2, size=40)
    cases = np.vstack([rows[:6], [[0.9, 0.02, 0.02, 0.02, 0.02, 0.02]]])
    ours, errors = forests.score_with_error(forests.fit_forest(rows, 0, 800), cases)
    theirs = -IsolationForest(n_estimators=800, random_state=0).fit(rows).score_samples(cases)
    assert (np.abs(ours - theirs) < 4 * 2**0.5 * errors).all()
    assert np.abs(ours - theirs).max() < 0.02
    assert theirs.argmax() == ours.argmax() == 6


def test_the_error_of_a_score_is_the_spread_over_seeds():
    rows = np.random.default_rng(0).random((20, 3))
    found = [forests.score_with_error(forests.fit_forest(rows, seed, 100), rows[:5]) for seed in range(60)]
    spread = np.std([one[0] for one in found], axis=0, ddof=1)
    np.testing.assert_allclose(np.mean([one[1] for one in found], axis=0), spread, rtol=0.35)


def test_held_out_scores_are_of_forests_that_never_saw_the_case(profile, reference):
    rows = reference.values["mass"][:, 0]
    for case in (0, 15):
        direct = (
            -IsolationForest(n_estimators=400, random_state=3)
            .fit(np.delete(rows, case, axis=0))
            .score_samples(rows[case : case + 1])
        )
        assert profile.held_out[case, 0] == pytest.approx(
            direct[0], abs=4 * profile.errors[case, 0] * (1 + 1000 / 400) ** 0.5
        )


def test_many_cases_are_held_out_by_the_trees_that_did_not_draw_them():
    rows = np.random.default_rng(0).random((400, 4))
    scores, _ = forests.held_out_scores(rows, 0, 100)
    forest = forests.fit_forest(rows, 0, 100)
    case = 11
    without = [tree for tree in range(100) if case not in forest.members[tree]]
    assert 0 < len(without) < 100
    paths = forest.paths(rows[case : case + 1])[0, without]
    assert scores[case] == pytest.approx(2 ** -(paths.mean() / forests.average_path(np.array([256]))[0]), rel=1e-12)


def test_the_path_lengths_are_splits_and_what_the_rest_of_a_leaf_would_take():
    rows = np.random.default_rng(0).random((50, 4))
    forest = forests.fit_forest(rows, 0, 5)
    for tree in range(5):
        node, steps = tree, 0
        while forest.feature[node] >= 0:
            node = forest.left[node] + int(rows[7, forest.feature[node]] > forest.threshold[node])
            steps += 1
        n = int(forest.count[node])
        rest = 0 if n == 1 else 1 if n == 2 else 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
        assert forest.paths(rows[7:8])[0, tree] == pytest.approx(steps + rest, rel=1e-12)


def expectation(forest, x, known, node):
    """Mean path length when only some features are known, straight from the definition."""
    if forest.feature[node] < 0:
        return forest.depth[node] + forests.average_path(forest.count[[node]])[0]
    left, right = forest.left[node], forest.left[node] + 1
    if forest.feature[node] in known:
        return expectation(forest, x, known, left if x[forest.feature[node]] <= forest.threshold[node] else right)
    parts = (forest.count[child] * expectation(forest, x, known, child) for child in (left, right))
    return sum(parts) / forest.count[node]


def test_contributions_are_shapley_values_by_their_definition():
    rng = np.random.default_rng(0)
    forest = forests.fit_forest(rng.random((20, 4)), 0, 3)
    for x in (np.array([[0.875, 0.125, 1.5, 0.25]]), rng.random((1, 4))):
        expected = np.zeros(4)
        for tree, feature in itertools.product(range(3), range(4)):
            others = [other for other in range(4) if other != feature]
            for size in range(4):
                weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                for known in itertools.combinations(others, size):
                    gain = expectation(forest, x[0], {*known, feature}, tree) - expectation(
                        forest, x[0], set(known), tree
                    )
                    expected[feature] -= weight * gain / 3
        np.testing.assert_allclose(forests.contributions(forest, x)[0], expected, atol=1e-12)


def test_contributions_sum_to_the_path_that_is_missing():
    rows = np.random.default_rng(0).random((60, 5))
    forest, odd = forests.fit_forest(rows, 0, 100), np.array([[0.5, 0.5, 3.0, 0.5, 0.5]])
    found = forests.contributions(forest, odd)[0]
    assert found.argmax() == 2
    mean = np.mean([expectation(forest, odd[0], set(), tree) for tree in range(100)])
    own = np.mean([expectation(forest, odd[0], set(range(5)), tree) for tree in range(100)])
    assert found.sum() == pytest.approx(mean - own, rel=1e-9)


def test_an_unusual_share_is_named_with_its_reference_range(profile, new):
    one = of(score_table(profile, new, false_alarms=0.2), "shifted", "heart")
    assert one.verdict == "unusual"
    assert one.percentile > 90
    sentence = next(reason for reason in one.reasons if reason.roi == "trachea").sentence("heart")
    low, high = profile.reference("heart")[:, 2].min(), profile.reference("heart")[:, 2].max()
    assert sentence == f"heart relied 70 % on 'trachea' (reference {100 * low:.0f}-{100 * high:.0f} %)"


def test_a_finding_that_the_reference_never_has_is_named_first(profile, new):
    one = of(score_table(profile, new), "ill", "heart")
    assert one.reasons[0].sentence("heart") == "heart relied 14 % on 'pleural effusion' (reference 0 %)"


def test_a_region_that_some_reference_cases_lack_counts_as_nothing_there(tmp_path):
    rois = (*LABELS, "pleural_effusion")
    tables = {f"c{n}": table_of(f"c{n}", ("heart",), rois if n % 2 else LABELS) for n in range(4)}
    table = CohortTable.read(write_cohort(tmp_path / "mixed", tables))
    column = table.values["mass"][:, :, table.rois.index("pleural_effusion")]
    assert (column[::2] == 0).all()
    assert (column[1::2] > 0).all()
    assert fit_profile(table).counts() == {"heart": 4}


def test_an_absent_class_is_left_out_and_counted(profile, new, tmp_path):
    assert of(score_table(profile, new), "lacking", "aorta").status == "absent"
    absent = ("aorta",)
    tables = {f"c{n}": table_of(f"c{n}", ("aorta", "heart"), absent=absent if n < 3 else ()) for n in range(10)}
    fitted = fit_profile(CohortTable.read(write_cohort(tmp_path / "some", tables)))
    assert fitted.counts()["aorta"] == 7
    assert "fewer than 19 reference cases have" in " ".join(fitted.warnings())
    assert np.isnan(fitted.held_out[:3, 0]).all()


def test_verdicts_keep_to_the_false_alarm_rate_on_the_reference(profile, reference):
    held_out = profile.held_out[:, 0]
    for rate in (0.05, 0.2):
        threshold = score_table(profile, reference.select([0]), false_alarms=rate)[0].threshold
        assert np.mean(held_out > threshold) <= rate


def test_fewer_than_three_cases_are_no_reference(tmp_path):
    table = CohortTable.read(write_cohort(tmp_path / "two", {"a": table_of("a"), "b": table_of("b")}))
    with pytest.raises(InputError, match="needs at least 3"):
        fit_profile(table)


def test_constant_features_are_warned_of_and_do_no_harm(tmp_path):
    tables = {f"c{n}": table_of("same", ("heart",)) for n in range(10)}
    fitted = fit_profile(CohortTable.read(write_cohort(tmp_path / "still", tables)))
    assert "all reference cases are alike in heart" in " ".join(fitted.warnings())
    other = CohortTable.read(
        write_cohort(tmp_path / "other", {"x": moved(table_of("same", ("heart",)), "heart", "trachea", 0.6)})
    )
    one = of(score_table(fitted, other), "x", "heart")
    assert one.reasons[0].roi == "trachea"
    assert all(math.isfinite(value) for value in one.baselines.values())


def test_a_profile_comes_back_from_its_file_as_it_was(profile, new, tmp_path):
    again = Profile.load(profile.save(tmp_path / "p.npz"))
    assert [one.to_dict() for one in score_table(again, new)] == [one.to_dict() for one in score_table(profile, new)]
    with zipfile.ZipFile(tmp_path / "p.npz") as archive:
        assert sorted(archive.namelist()) == [
            f"{name}.npy" for name in ("checks", "document", "errors", "features", "held_out", "volumes")
        ]


@pytest.mark.parametrize("cut", [0, 10, 1000, -5])
def test_a_truncated_profile_is_refused(profile, tmp_path, cut):
    path = profile.save(tmp_path / "p.npz")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"p\.npz is"):
        Profile.load(path)


def rewritten(path, change):
    with np.load(path) as archive:
        members = dict(archive)
    document = json.loads(members["document"].tobytes())
    change(document, members)
    members["document"] = np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)
    np.savez(path, **members)
    return path


def test_a_profile_whose_numbers_were_changed_is_refused(profile, tmp_path):
    def change(document, members):
        members["held_out"] = members["held_out"] + 0.1

    with pytest.raises(InputError, match="has been changed since it was written"):
        Profile.load(rewritten(profile.save(tmp_path / "p.npz"), change))


def test_a_profile_of_a_newer_version_is_refused(profile, tmp_path):
    with pytest.raises(InputError, match="format version 3, this Agg2Exp reads up to 2; update"):
        path = profile.save(tmp_path / "p.npz")
        Profile.load(rewritten(path, lambda document, members: document.update(format_version=3)))


def test_a_pickle_in_place_of_an_array_is_not_opened(profile, tmp_path):
    path = profile.save(tmp_path / "p.npz")
    rewritten(path, lambda document, members: members.update(features=np.array([{"a": 1}], dtype=object)))
    with pytest.raises(InputError, match="no profile, or a damaged one"):
        Profile.load(path)


def test_forests_that_come_out_otherwise_than_they_were_are_not_used(profile, new):
    other = replace(profile, checks=profile.checks + 0.01, versions={"numpy": "1.2"})
    with pytest.raises(InputError, match=r"grows other forests than 1\.2"):
        score_table(other, new)


@pytest.mark.parametrize(
    ("change", "told"),
    [({"sha256": "cd" * 32}, r"the model is made up \(cdcdcdcdcdcd\) instead of made up \(abababababab\)"),
     ({"method": "smoothgrad"}, "method is smoothgrad instead of gradient")],
)  # fmt: skip
def test_another_model_or_method_is_refused(profile, tmp_path, change, told):
    other = CohortTable.read(write_cohort(tmp_path / "other", {"x": table_of("x")}, **change))
    with pytest.raises(InputError, match=f"x cannot be scored with this profile: {told}"):
        score_table(profile, other)


def test_another_seed_of_the_noise_is_no_other_method(profile, new):
    identity = json.loads(json.dumps(new.identity))
    identity["settings"]["seed"] = 99
    assert score_table(profile, replace(new, identity=identity))
    identity["settings"]["reduction"] = "mean"
    with pytest.raises(InputError, match="reduction is mean instead of sum"):
        score_table(profile, replace(new, identity=identity))


@pytest.mark.parametrize("name", ["robust_z", "mahalanobis", "lof"])
def test_each_baseline_ranks_a_far_case_above_a_near_one(name):
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((30, 3)), np.full(30, 0.2)])
    near, far = rows.mean(axis=0), rows.mean(axis=0) + np.array([2.0, 0, 0, 0])
    scores = baseline_scorers()[name](rows, np.stack([near, far]))
    assert scores[1] > scores[0]


def test_the_command_fits_and_scores_and_writes_for_people_and_programs(tmp_path, capsys):
    cohort = write_cohort(tmp_path / "ref", {f"h{n}": table_of(f"h{n}", ("heart",)) for n in range(12)})
    other = write_cohort(tmp_path / "new", {"odd": moved(table_of("odd", ("heart",)), "heart", "trachea", 0.7)})
    assert main(["profile", "fit", str(cohort), "--out", str(tmp_path / "p.npz"), "--progress", "none"]) == 0
    words = ["profile", "score", str(other), "--profile", str(tmp_path / "p.npz"), "--progress", "none"]
    assert main([*words, "--out", str(tmp_path / "s.json")]) == 0
    assert main([*words, "--out", str(tmp_path / "s.csv")]) == 0
    assert "heart relied 70 % on 'trachea' (reference" in capsys.readouterr().out
    written = json.loads((tmp_path / "s.json").read_text())
    assert {"case", "class", "score", "percentile", "verdict", "reasons", "baselines"} <= set(written["scores"][0])
    assert len(written["reference_scores"]["heart"]) == 12
    assert (tmp_path / "s.csv").read_text().splitlines()[0].startswith("case,class,status,score,percentile")
    assert main(["profile", "score", str(other), "--profile", str(cohort / "cohort.json")]) == 2
    assert "no profile, or a damaged one" in capsys.readouterr().err


def test_what_is_told_lists_unusual_classes_first_and_what_could_not_be_scored(profile, new):
    scores = [one for one in score_table(profile, new) if one.case == "lacking"]
    text = describe_scores(profile, scores)
    assert "against 16 reference cases" in text
    assert "absent from the prediction: aorta" in text


def test_scores_that_are_not_known_are_null_and_not_nan(profile, new, tmp_path):
    path = write_scores(profile, score_table(profile, new), tmp_path / "s.json")
    rows = json.loads(path.read_text(), parse_constant=pytest.fail)["scores"]
    assert [row["score"] for row in rows if row["status"] == "absent"] == [None]


def test_a_share_that_rounds_to_the_end_of_its_range_is_no_reason():
    assert not Reason("heart", 0.0032, 0.001, 0.003, 0.1).shows()
    assert Reason("heart", 0.005, 0.001, 0.003, 0.1).shows()


def test_a_region_new_to_the_reference_is_told_even_of_a_usual_score(profile, new):
    scores = [replace(of(score_table(profile, new), "ill", "heart"), verdict="usual")]
    assert "relied 14 % on 'pleural effusion' (reference 0 %)" in describe_scores(profile, scores)
