"""The phantom study: its patients, what is near, its measures against scikit-learn, and a whole one that is small."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from Agg2ExpLib.cohort.judge.reasons import Reason
from Agg2ExpLib.cohort.judge.scoring import ClassScore
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.studies.design import Design, mask_distances
from Agg2ExpLib.studies.measures import MEAN, MEAN_OF_RANKS, beyond_size, lines, namings
from Agg2ExpLib.studies.phantom_study import main
from Agg2ExpLib.studies.throughput import Run, ratios
from Agg2ExpLib.studies.throughput import main as throughput

torch.set_num_threads(1)


def test_half_of_the_new_patients_have_a_finding_of_every_kind_side_and_severity():
    found = [Design().findings_of(index) for index in range(40)]
    assert [len(some) for some in found] == [0, 1] * 20
    ill = [some[0] for some in found if some]
    kinds = [one.kind for one in ill]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(kinds[:4], 5)
    assert {(one.kind, one.side) for one in ill} == {(kind, side) for kind in kinds[:4] for side in ("left", "right")}
    severities = sorted(one.severity for one in ill)
    assert severities[0] < 0.2
    assert severities[-1] > 0.9
    assert max(np.diff(severities)) < 0.1


def test_studies_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="give 3 and 2 or more"):
        Design(reference=2)
    with pytest.raises(InputError, match="they would be the same"):
        Design(new_seed=Design.reference_seed)


def test_near_is_counted_in_millimetres_between_voxel_centres():
    labels = np.zeros((10, 4, 4), dtype=np.uint8)
    labels[0:2], labels[6] = 1, 2
    finding = np.zeros(labels.shape, dtype=bool)
    finding[4, 1, 1] = True
    found = mask_distances(labels, finding, (3.0, 1.0, 1.0), (1, 2, 3))
    np.testing.assert_array_equal(found, [9.0, 6.0, np.nan])
    assert mask_distances(labels, labels == 1, (3.0, 1.0, 1.0), (1,)) == [0.0], "inside of it"
    assert np.isinf(mask_distances(labels, np.zeros_like(finding), (3.0, 1.0, 1.0), (1, 2))).all()


def completed(values):
    """Give the fourth case the first structure that it lacks: as far from the structure's mean as its other one is."""
    found = values.copy()
    found[3, 0] = np.nanmean(values[:, 0]) + values[3, 1] - values[:, 1].mean()
    return found


def test_areas_and_correlations_are_those_of_the_libraries_and_absent_structures_are_left_out():
    rng = np.random.default_rng(0)
    scores, dice = rng.random((20, 2)), rng.random((20, 2))
    near = rng.random((20, 2)) < 0.4
    ill = near.any(axis=1)
    scores[3, 0] = np.nan
    heart, aorta, mean, ranks = lines({"lof": scores}, dice, near, ill, ("heart", "aorta"))
    there = np.isfinite(scores[:, 0])
    assert (heart.cases, heart.near) == (19, int(near[there, 0].sum()))
    assert heart.auroc == roc_auc_score(near[there, 0], scores[there, 0])
    assert (aorta.rho, aorta.p) == tuple(stats.spearmanr(scores[:, 1], dice[:, 1]))
    assert mean.auroc == roc_auc_score(ill, completed(scores).mean(axis=1))
    assert (mean.structure, ranks.structure) == (MEAN, MEAN_OF_RANKS)
    by_rank = np.column_stack([stats.rankdata(scores[:, 0], nan_policy="omit") / 19, stats.rankdata(scores[:, 1]) / 20])
    assert ranks.auroc == roc_auc_score(ill, completed(by_rank).mean(axis=1))


def test_what_the_explanation_adds_to_sizes_is_said():
    rng = np.random.default_rng(0)
    size = rng.random((30, 2))
    scores = {"lof": size + 0.02 * rng.random((30, 2)), "sizes": size}
    found = lines(scores, 1 - size + 0.05 * rng.random((30, 2)), size > 0.5, np.arange(30) < 15, ("heart", "aorta"))
    ours = next(one for one in found if (one.detector, one.structure) == ("lof", "heart"))
    assert ours.rho < -0.9
    assert abs(ours.given_size) < 0.5
    assert all(np.isnan(one.given_size) for one in found if one.detector == "sizes")


def test_a_detector_is_better_than_sizes_only_where_chance_does_not_give_it():
    rng = np.random.default_rng(0)
    ill = np.arange(40) % 2 == 0
    dice = 0.9 - 0.3 * ill[:, None] + 0.01 * rng.random((40, 1)) + np.zeros((40, 2))
    scores = {
        "isolation_forest": ill[:, None] + rng.random((40, 2)),
        "lof": rng.random((40, 2)),
        "sizes": rng.random((40, 2)),
    }
    found = beyond_size(scores, dice, ill)
    told = {one.first: one for one in found["auroc"]}
    assert {name: one.real for name, one in told.items()} == {"isolation_forest": True, "lof": False}
    by = {one.detector: one.auroc for one in lines(scores, dice, dice < 0.7, ill, ("heart", "aorta"))
          if one.structure == MEAN_OF_RANKS}  # fmt: skip
    assert told["lof"].value == pytest.approx(by["lof"] - by["sizes"])
    assert told["lof"].low < told["lof"].value < told["lof"].high
    assert found["rho"][0].value < 0, "it follows Dice more closely"
    assert beyond_size({"lof": scores["lof"]}, dice, ill) == {"auroc": (), "rho": ()}


def test_reasons_are_counted_where_a_finding_is_near_and_where_it_is_not():
    own, other = Reason("effusion", 0.2, 0.0, 0.0, np.nan), Reason("heart", 0.3, 0.0, 0.1, 1.0)

    def score(case, reasons, verdict):
        return ClassScore(case, "aorta", "scored", 0.5, 50.0, 0.6, verdict, reasons)

    scores = [
        score("near", (own,), "unusual"),
        score("near too", (other, own), "usual"),
        score("far", (own,), "usual"),
        score("healthy", (other,), "unusual"),
        ClassScore("absent", "aorta", "absent"),
    ]
    near = {(one.case, "aorta"): one.case.startswith("near") for one in scores}
    regions = {one.case: [] if one.case == "healthy" else ["effusion"] for one in scores}
    shares = {("near", "aorta"): 0.2, ("near too", "aorta"): 0.4}
    one, everything = namings(scores, near, regions, shares, ("aorta",))
    assert (one.near, one.named, one.first, one.far, one.far_named) == (2, 2, 1, 1, 1)
    assert (one.near_unusual, one.far_unusual, one.healthy, one.healthy_unusual) == (1, 0, 1, 1)
    assert one.median_share == pytest.approx(0.3)
    assert (everything.structure, everything.near) == ("", 2)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from monai.networks.nets import UNet

    from Agg2ExpLib.anatomy import THORAX_17
    from Agg2ExpLib.models.bundle import write_model_folder
    from Agg2ExpLib.models.card import ModelCard

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 17, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=THORAX_17, spacing=(10.0, 10.0, 10.0), window=(48, 48, 48),
                     architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    return write_model_folder(tmp_path_factory.mktemp("models") / "small", UNet(**arguments).state_dict(), card)


def test_a_small_study_is_written_whole_and_goes_on_where_it_was(small_model, tmp_path, capsys):
    out = tmp_path / "study"
    words = ["--out", str(out), "--model", str(small_model), "--reference", "3", "--new", "2", "--spacing", "10",
             "--classes", "heart,aorta,lung_lower_lobe_left,lung_upper_lobe_right", "--workers", "1"]  # fmt: skip
    assert main(words) == 0
    assert "| structure | cases | near | isolation forest |" in capsys.readouterr().out
    first = {
        name: (out / name).read_bytes()
        for name in ("study.json", "structures.csv", "reasons.csv", "cases.csv", "study.md")
    }
    document = json.loads(first["study.json"])
    assert document["design"]["near_mm"] == 10.0
    assert {row["detector"] for row in document["structures"]} == {
        "isolation_forest",
        "robust_z",
        "mahalanobis",
        "lof",
        "sizes",
    }
    rows = list(csv.DictReader((out / "cases.csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 4
    assert [row["kind"] != "" for row in rows[::4]] == [False, True]
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")
    # As after a kill: one case is not there, the others are not explained again.
    parts = sorted((out / "new" / "parts").iterdir())
    kept = parts[1].stat().st_mtime_ns
    parts[0].unlink()
    assert main(words) == 0
    assert parts[1].stat().st_mtime_ns == kept
    assert {name: (out / name).read_bytes() for name in first} == first
    assert main([*words, "--spacing", "9"]) == 2
    assert "holds a study of another design" in capsys.readouterr().err


def test_throughput_counts_cases_a_second():
    assert ratios(Run(1, 8, 90.0, 80.0, 10.0), Run(2, 8, 60.0, 40.0, 10.0)) == (1.5, 2.0)


def test_throughput_of_one_worker_alone_is_no_comparison(capsys):
    assert throughput(["--workers", "1"]) == 2
    assert "give 2 workers or more" in capsys.readouterr().err
