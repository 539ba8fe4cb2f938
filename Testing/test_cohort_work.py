"""One case with the real explain(): truth, regions, what is kept, and that every method's identity is as planned."""

import numpy as np
import pytest
import torch

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.run.store import CohortFolder
from Agg2ExpLib.cohort.run.work import agreement_of, surface_dice
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.methods import METHODS, method_of
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.bundle import write_model_folder
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.phantom import Finding, write_phantoms
from Agg2ExpLib.request import identity_of, planned_identity, request_of
from Agg2ExpLib.volume import Grid, Volume

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 17, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=tuple(f"class_{n}" for n in range(17)), spacing=(10.0, 10.0, 10.0),
                     window=(32, 32, 32), architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    return write_model_folder(tmp_path_factory.mktemp("models") / "small", UNet(**arguments).state_dict(), card)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    write_phantoms(folder, 1, seed=5, spacing=10.0)
    write_phantoms(folder, 1, seed=5, spacing=10.0, first=1, findings=[Finding("pleural_effusion", 0.8)])
    (folder / "torn").mkdir()
    (folder / "torn" / "ct.nii.gz").write_bytes(b"no scan")
    return folder


@pytest.fixture(scope="module")
def cohort(phantoms, small_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort") / "out"
    words = [
        "cohort",
        phantoms,
        "--model",
        small_model,
        "--out",
        out,
        "--method",
        "gradient",
        "--workers",
        "1",
        "--keep",
    ]
    assert main([*map(str, words), "--progress", "none"]) == 0
    return out


def test_phantoms_become_a_table_with_agreement_and_a_damaged_scan_is_a_failure(cohort):
    table = CohortTable.read(cohort)
    assert table.cases == ("phantom_0005_0000", "phantom_0005_0001")
    assert "torn" in table.failures
    assert "ct.nii.gz" in table.failures["torn"]
    assert np.isfinite(table.dice).any()
    assert np.isfinite(table.surface_dice[np.isfinite(table.dice)]).all()
    assert table.metadata["finding"] == ("healthy", "pleural_effusion")


def test_a_finding_is_a_region_of_its_case_and_nothing_in_the_others(cohort):
    table = CohortTable.read(cohort)
    column = table.values["mass"][:, :, table.rois.index("pleural_effusion")]
    there = table.present()
    assert (column[0][there[0]] == 0).all()
    assert (column[1][there[1]] > 0).any()


def test_a_kept_explanation_has_the_rows_of_the_table(cohort):
    table = CohortTable.read(cohort)
    one = Explanation.load(cohort / "explanations" / "phantom_0005_0000").importance
    rows = [table.classes.index(name) for name in one.classes]
    columns = [table.rois.index(roi) for roi in one.rois]
    np.testing.assert_array_equal(table.values["mass"][0][np.ix_(rows, columns)], one.matrix("mass"))


def test_an_explanation_that_was_kept_serves_when_only_the_part_is_missing(cohort, phantoms, small_model):
    store = CohortFolder(cohort)
    before = (cohort / "importance.parquet").read_bytes()
    kept = cohort / "explanations" / "phantom_0005_0000" / "explanation.json"
    made = kept.stat().st_mtime_ns
    (store.parts / "phantom_0005_0000.parquet").unlink()
    words = [
        "cohort",
        phantoms,
        "--model",
        small_model,
        "--out",
        cohort,
        "--method",
        "gradient",
        "--workers",
        "1",
        "--keep",
    ]
    assert main([*map(str, words), "--progress", "none"]) == 0
    assert kept.stat().st_mtime_ns == made
    assert (cohort / "importance.parquet").read_bytes() == before


def test_the_planned_identity_is_the_one_that_the_explanation_has(cohort, small_model):
    document = Explanation.load(cohort / "explanations" / "phantom_0005_0000").document
    assert planned_identity(load_model(small_model), request_of(method="gradient")) == identity_of(document)


@pytest.mark.parametrize("method", list(METHODS))
def test_the_samples_that_a_method_takes_by_default_are_part_of_the_identity(small_model, method):
    identity = planned_identity(load_model(small_model), request_of(method=method))
    assert identity["settings"].get("samples") == method_of(method).resolved().get("samples")


def test_dice_and_surface_dice_of_boxes_are_as_counted_by_hand():
    grid = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    first, second = np.zeros((2, 20, 20, 20), dtype=np.uint8)
    first[5:15, 5:15, 5:15] = 1
    second[5:15, 5:15, 6:16] = 1
    found = agreement_of(Volume(first, grid), Volume(second, grid), ("background", "box", "none"), 1.0)
    assert found.keys() == {"box"}
    assert found["box"]["dice"] == pytest.approx(0.9)
    assert 0 < found["box"]["surface_dice"] < 1
    # Moved by one voxel of 2 mm: within 2 mm every surface voxel has one of the other.
    assert surface_dice(first == 1, second == 1, (2.0, 2.0, 2.0), 2.0) == 1.0
    assert surface_dice(first == 1, second == 9, (2.0, 2.0, 2.0), 2.0) == 0.0


def test_a_truth_on_another_grid_is_brought_to_that_of_the_prediction():
    fine = Grid((20, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    coarse = Grid((10, 10, 10), np.array([[2.0, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]]))
    first, second = np.zeros((20,) * 3, dtype=np.uint8), np.zeros((10,) * 3, dtype=np.uint8)
    first[4:12, 4:12, 4:12] = 1
    second[2:6, 2:6, 2:6] = 1
    assert agreement_of(Volume(first, fine), Volume(second, coarse), ("background", "box"))["box"]["dice"] == 1.0


def test_a_truth_of_other_labels_is_the_reason_of_a_failure(phantoms, tmp_path, small_model):
    from Agg2ExpLib.volume import read_volume, write_volume

    case = phantoms / "phantom_0005_0000"
    truth = read_volume(case / "segmentation.nii.gz", kind="labels")
    write_volume(Volume(np.full(truth.shape, 40, dtype=np.uint8), truth.grid), tmp_path / "t.nii.gz")
    (tmp_path / "cases.csv").write_text(f"id,image,truth\na,{case / 'ct.nii.gz'},t.nii.gz\n")
    words = [
        "cohort",
        tmp_path / "cases.csv",
        "--model",
        small_model,
        "--out",
        tmp_path / "out",
        "--method",
        "gradient",
    ]
    assert main([*map(str, words), "--workers", "1", "--progress", "none"]) == 2
    assert "has label 40, but the model has 17 classes" in str(CohortFolder(tmp_path / "out").failure("a"))
