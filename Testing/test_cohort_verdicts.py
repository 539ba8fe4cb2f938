"""Verdicts count chance: conformal p-values by hand, rates in simulations, patients as a whole, a reference case as itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cohort_samples import LABELS, table_of, write_cohort

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge import conformal
from Agg2ExpLib.cohort.judge.baselines import SIZES, held_out_baselines, held_out_sizes
from Agg2ExpLib.cohort.judge.forest import anomaly_score, fit_forest, held_out_scores, stability, trees_for
from Agg2ExpLib.cohort.judge.profile import Profile, fit_profile
from Agg2ExpLib.cohort.judge.reasons import Reason, find_reasons, usual_range
from Agg2ExpLib.cohort.judge.score_files import describe_patients, describe_scores
from Agg2ExpLib.cohort.judge.scoring import score_patients, score_table
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.words.verdicts import Verdicts, verdicts_of


def test_p_is_one_more_than_the_number_at_least_as_odd_over_one_more_than_all():
    rng = np.random.default_rng(0)
    reference, scores = rng.integers(0, 8, 37) / 8, rng.integers(0, 10, 20) / 8
    by_hand = [(1 + sum(r >= s for r in reference)) / (len(reference) + 1) for s in scores]
    np.testing.assert_allclose(conformal.p_values(reference, scores), by_hand, rtol=1e-12)


@pytest.mark.parametrize("alarms", [0.02, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("count", [3, 18, 19, 20, 60])
def test_the_threshold_is_where_p_falls_to_the_rate(count, alarms):
    reference = np.random.default_rng(count).random(count)
    limit = conformal.threshold(reference, alarms)
    assert np.isnan(limit) == (count < conformal.fewest_for(alarms))
    if np.isfinite(limit):
        p = conformal.p_values(reference, np.array([limit, np.nextafter(limit, 2)]))
        assert p[1] <= alarms + 1e-9 < p[0]


def test_two_scans_of_a_patient_count_as_one():
    weights = conformal.weights_of(np.array([0, 0, 1, 2]))
    assert weights.tolist() == [0.5, 0.5, 1, 1]
    p = conformal.p_values(np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.7]), weights)
    assert p[0] == pytest.approx((1 + 0.5 + 1) / 4)


@pytest.mark.parametrize("count", [10, 20, 60])
def test_alarms_hold_their_rate_per_structure_and_per_patient(count):
    """Scores of correlated structures; 20,000 new patients in all, each against a reference of its own or shared by 20."""
    rng = np.random.default_rng(count)
    structures, patients, rates = 5, 0, (0.05, 0.1, 0.2)
    alarms = {rate: [0, 0] for rate in rates}
    for _ in range(1000 if count < 60 else 500):
        shared = rng.standard_normal((count + 4, 1))
        scores = np.exp(0.7 * shared + 0.7 * rng.standard_normal((count + 4, structures)))
        reference, new = scores[:count], scores[count:]
        p = np.column_stack([conformal.p_values(reference[:, c], new[:, c]) for c in range(structures)])
        whole = [conformal.patient_p(reference, one, "abcde")[0] for one in new]
        for rate in rates:
            alarms[rate][0] += int((p <= rate + 1e-9).sum())
            alarms[rate][1] += sum(one <= rate + 1e-9 for one in whole)
        patients += len(new)
    for rate in rates:
        wanted = conformal.rate_of(count, rate)
        # Four new patients share a reference and structures are correlated: six simple standard errors leave room for that.
        room = 6 * np.sqrt(max(wanted, 0.01) / patients)
        assert abs(alarms[rate][0] / patients / structures - wanted) < room
        assert abs(alarms[rate][1] / patients - wanted) < room
        assert wanted <= rate


def test_alarms_of_forests_hold_their_rate():
    rng = np.random.default_rng(0)
    found = []
    for repeat in range(30):
        rows = rng.dirichlet(np.array([8.0, 4, 2, 1]), size=24 + 20)
        held_out, _ = held_out_scores(rows[:24], repeat, 60)
        scores = anomaly_score(fit_forest(rows[:24], repeat, 60), rows[24:])
        found.append((conformal.p_values(held_out, scores) <= 0.2 + 1e-9).mean())
    assert conformal.rate_of(24, 0.2) == pytest.approx(0.2)
    assert np.mean(found) == pytest.approx(0.2, abs=3 * np.std(found) / 30**0.5 + 0.02)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "cohort"
    return CohortTable.read(write_cohort(folder, {f"h{n}": table_of(f"h{n}") for n in range(24)}))


@pytest.fixture(scope="module")
def profile(reference):
    return fit_profile(reference, seed=1, trees=200)


def of(scores, case, name):
    return next(one for one in scores if (one.case, one.name) == (case, name))


def test_a_reference_case_is_scored_without_itself_whatever_it_is_called(profile, reference):
    renamed = replace(reference.select([5]), cases=("somebody",))
    found = of(score_table(profile, renamed), "somebody", "heart")
    held_out = profile.held_out[:, 0]
    assert found.own == "h5"
    assert found.score == held_out[5]
    assert found.p == pytest.approx((1 + (np.delete(held_out, 5) >= held_out[5]).sum()) / 24)
    rows = reference.values["mass"][:, 0]
    baselines = held_out_baselines(rows, profile.seed)
    assert found.baselines["mahalanobis"] == pytest.approx(baselines["mahalanobis"][5])
    assert "this case is one of the reference" in describe_scores(profile, [found])


def test_the_reference_range_of_a_reference_case_leaves_it_out(profile, reference):
    rows = reference.values["mass"][:, 0]
    case = int(rows[:, 2].argmax())
    mine = of(score_table(profile, reference.select([case])), reference.cases[case], "heart")
    others = np.delete(rows[:, 2], case)
    told = [reason for reason in mine.reasons if reason.roi == "trachea"]
    assert rows[case, 2] - others.max() > 0.005
    assert (told[0].low, told[0].high) == (others.min(), others.max())


def test_a_new_case_is_no_reference_case(profile):
    new = replace_mass(profile, 0.3)
    assert all(one.own == "" for one in score_table(profile, new))


def replace_mass(profile, share):
    table = CohortTable(
        ("x",), profile.classes, profile.rois, {}, np.full((1, 3), np.nan), np.full((1, 3), np.nan), {}, profile.identity, {},
        np.full((1, 4), 0.25),
    )  # fmt: skip
    mass = np.tile(profile.features.mean(axis=0), (1, 1, 1))
    mass[0, 0] *= (1 - share) / (1 - mass[0, 0, 2])
    mass[0, 0, 2] = share
    return replace(table, values={"mass": mass, "enrichment": mass})


def test_number_by_chance_and_patient_stand_in_the_same_words_everywhere(profile, tmp_path, capsys):
    scores = score_table(profile, replace_mass(profile, 0.95))
    (patient,) = score_patients(profile, scores)
    rate = np.floor(0.05 * 25 + 1e-9) / 25
    assert (patient.scored, patient.unusual, patient.expected) == (3, 1, pytest.approx(3 * rate))
    assert (patient.verdict, patient.oddest, patient.p) == ("unusual", "heart", pytest.approx(1 / 25))
    sentence = "1 of 3 structures is unusual; 0.1 are expected by chance"
    whole = "he patient as a whole is unusual (p = 0.040; at most 5 % of usual patients are called so)"
    text = describe_scores(profile, scores)
    assert sentence in text
    assert whole in text
    from Agg2ExpLib.cohort.judge.score_files import write_scores

    document = json.loads(write_scores(profile, scores, tmp_path / "s.json").read_text())
    found = verdicts_of(document, "p.npz")
    assert sentence in found.summary()
    assert whole in found.summary()
    assert Verdicts.from_text(found.to_text()) == found
    many = describe_patients(score_patients(profile, scores) * 40, 0.05, 24)
    # Of 24 reference cases one at most may be as odd: p is 1/25, and never 1/20.
    assert "40 of 40 patients are unusual as a whole; 1.6 are expected by chance" in many


def test_with_few_reference_cases_nothing_is_called_unusual_and_nothingusual_range(reference):
    few = fit_profile(reference.select(range(10)), trees=50)
    scores = score_table(few, replace_mass(few, 0.9))
    assert {one.verdict for one in scores} == {"undecided"}
    text = describe_scores(few, scores)
    assert "19 reference cases are needed to call a structure unusual at 5 %" in text
    assert "the patient as a whole cannot be judged at 5 %" in text
    assert of(score_table(few, replace_mass(few, 0.9), false_alarms=0.1), "x", "heart").verdict == "unusual"


def test_another_seed_would_correlate_as_told_and_more_trees_are_grown_where_asked(reference):
    rows = reference.values["mass"][:, 0]
    found = [held_out_scores(rows, seed, 60) for seed in range(20)]
    pairs = np.corrcoef([scores for scores, _ in found])
    told = np.mean([stability(*one) for one in found])
    assert told == pytest.approx(pairs[np.triu_indices(20, 1)].mean(), abs=0.04)
    now = stability(*held_out_scores(rows, 0, 100))
    more = trees_for(now, 100, 0.97)
    assert stability(*held_out_scores(rows, 0, more)) == pytest.approx(0.97, abs=0.012)
    asked = fit_profile(reference, wanted=0.997)
    assert asked.trees > 1000
    assert "scores of another seed would correlate" in asked.stability_in_words()
    assert "few for" in " ".join(fit_profile(reference, trees=5).warnings())


def test_the_papers_100_trees_are_a_preset(tmp_path, capsys):
    cohort = write_cohort(tmp_path / "ref", {f"h{n}": table_of(f"h{n}", ("heart",)) for n in range(6)})
    words = ["profile", "fit", str(cohort), "--out", str(tmp_path / "p.npz"), "--progress", "none"]
    assert main([*words, "--trees", "paper"]) == 0
    assert Profile.load(tmp_path / "p.npz").trees == 100
    assert "100 trees per structure" in capsys.readouterr().out
    assert main([*words, "--trees", "0"]) == 2


def test_scans_of_one_patient_are_held_out_together(tmp_path):
    tables = {f"s{n}": table_of(f"patient{n // 2}", ("heart",)) for n in range(12)}
    metadata = {name: {"patient": f"P{n // 2}"} for n, name in enumerate(tables)}
    table = CohortTable.read(write_cohort(tmp_path / "c", tables, metadata))
    fitted = fit_profile(table, trees=300)
    rows = table.values["mass"][:, 0]
    for case in (0, 7):
        others = np.flatnonzero(fitted.patients != fitted.patients[case])
        assert len(others) == 10
        direct = anomaly_score(fit_forest(rows[others], 99, 3000), rows[case : case + 1])[0]
        assert fitted.held_out[case, 0] == pytest.approx(direct, abs=4 * fitted.errors[case, 0])
    assert fitted.weights().tolist() == [0.5] * 12


def test_sizes_only_knows_nothing_of_the_explanation(reference, profile):
    volumes = np.random.default_rng(0).dirichlet(np.ones(4), 24)
    sized = replace(reference, volumes=volumes)
    fitted = fit_profile(sized, trees=100)
    other = replace(
        sized.select([0]), values={key: cube[[3]] * 0.999 for key, cube in sized.values.items()}, cases=("n",)
    )
    found = score_table(fitted, other)
    direct = anomaly_score(fit_forest(volumes, 0, 500), volumes[:1])[0]
    assert {one.baselines[SIZES] for one in found} == {direct}
    held_out = held_out_sizes(volumes, sized.present(), 3, 0)
    assert np.ptp(held_out, axis=1).max() == 0, "the same cases have every class"
    assert held_out[4, 0] == pytest.approx(
        anomaly_score(fit_forest(np.delete(volumes, 4, 0), 7, 4000), volumes[[4]])[0], abs=0.01
    )


def test_a_region_is_named_only_when_it_matters_in_size():
    reference = np.column_stack(
        [np.linspace(0.001, 0.002, 50), np.linspace(0.10, 0.20, 50), np.linspace(0.8, 0.898, 50)]
    )
    row = np.array([0.004, 0.199, 0.803])
    usual = usual_range(reference)
    assert find_reasons("abc", usual, row, np.ones(3), {}) == ()
    row = np.array([0.004, 0.35, 0.646])
    named = find_reasons("abc", usual, row, np.array([3.0, 2.0, 1.0]), {})
    assert [one.roi for one in named] == ["b", "c"], "0.4 % is outside of its range, but holds nothing"
    np.testing.assert_allclose((named[0].low, named[0].high), np.quantile(reference[:, 1], (0.025, 0.975)))


def test_profiles_of_before_are_refused(profile, tmp_path):
    path = profile.save(tmp_path / "p.npz")
    with np.load(path) as archive:
        members = dict(archive)
    document = json.loads(members["document"].tobytes()) | {"format_version": 1}
    members["document"] = np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)
    np.savez(path, **members)
    with pytest.raises(InputError, match="did not count chance; fit it again"):
        Profile.load(path)


def test_a_reason_reads_as_before():
    assert Reason("trachea", 0.7, 0.02, 0.1, 1.0).sentence("heart").startswith("heart relied 70 % on 'trachea'")
    assert LABELS[2] == "trachea"
