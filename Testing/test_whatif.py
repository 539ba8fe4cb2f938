import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.agreement import dice, dice_of_labels
from Agg2ExpLib.case.filling import fill_region
from Agg2ExpLib.cli import main
from Agg2ExpLib.environment import describe_environment, environment
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.estimate import estimate
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.models import Prepared
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Grid, Volume, read_volume, write_volume
from Agg2ExpLib.whatif import whatif

torch.set_num_threads(1)
LABELS = ("background", "dark", "bright")


class GreyLevels(torch.nn.Module):
    """Classes by grey level alone: what a filled region becomes is known by hand."""

    def forward(self, x):
        return torch.cat([0.4 - x, 0.2 - (x - 0.5).abs() * 2, 2 * (x - 0.75)], dim=1)


@pytest.fixture
def model():
    card = ModelCard(name="levels", labels=LABELS, window=(16, 16, 16), spacing=(2.0, 2.0, 2.0))
    return SegmentationModel(card, GreyLevels().eval(), "0" * 64, Path("levels.safetensors"))


@pytest.fixture
def explained(tmp_path, model):
    hu = np.full((20, 22, 24), -1000.0)
    hu[4:16, 4:16, 4:16] = 0
    hu[8:12, 8:12, 8:12] = 1000
    affine = np.diag([2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, 30, 5]
    write_volume(Volume(hu.astype(np.int16), Grid(hu.shape, affine)), tmp_path / "ct.nii.gz")
    settings = request_of(method="gradient", device="cpu")
    return explain(tmp_path / "ct.nii.gz", model, tmp_path / "explanation", settings)


def prepared(scan):
    """Return a scan as a network sees it, voxels of 2 mm."""
    grid = Grid(scan.shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    return Prepared(scan[None], grid, np.zeros(1), Volume(scan, grid), grid)


def test_the_cube_becomes_what_is_around_it(explained, model, tmp_path):
    result = whatif(explained, "bright", tmp_path / "out", model=model, fill="shell")
    dark, bright = (LABELS.index(name) - 1 for name in ("dark", "bright"))
    assert result.before_ml[bright] == pytest.approx(64 * 8 / 1000)
    assert result.after_ml[bright] == 0
    assert result.dice[bright] == 0
    whole, hollow = 12**3, 12**3 - 64
    assert result.after_ml[dark] == pytest.approx(whole * 8 / 1000)
    assert result.dice[dark] == pytest.approx(2 * hollow / (whole + hollow))


def test_the_second_prediction_lies_on_the_scans_own_grid(explained, model, tmp_path):
    whatif(explained, "bright", tmp_path / "out", model=model, fill="air")
    found = read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels")
    scan = explained.prediction()
    assert np.allclose(found.affine, scan.affine)
    changed = np.argwhere(found.voxels != scan.voxels)
    assert changed.min(axis=0).tolist() == [8, 8, 8]
    assert changed.max(axis=0).tolist() == [11, 11, 11]
    about = json.loads((tmp_path / "out" / "whatif.json").read_text())
    assert (about["region"], about["fill"], about["voxels"]) == ("bright", "air", 64)
    rows = list(csv.DictReader((tmp_path / "out" / "whatif.csv").open()))
    assert [row["class"] for row in rows] == ["dark", "bright"]


def test_a_mask_on_another_grid_is_a_region_too(explained, model, tmp_path):
    ones = np.ones((4, 4, 4), dtype=np.uint8)
    # The same cube as "bright", stored left to right reversed.
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = [-20 + 2 * 11, 30 - 2 * 8, 5 + 2 * 8]
    mask = Volume(ones, Grid(ones.shape, affine))
    given = whatif(explained, "mine", tmp_path / "mask", mask=mask, model=model, fill="shell")
    own = whatif(explained, "bright", tmp_path / "class", model=model, fill="shell")
    assert np.array_equal(given.dice, own.dice)


def test_the_shell_is_ten_millimetres_wide_and_leaves_the_region_out():
    scan = np.zeros((1, 1, 41))
    scan[0, 0, :] = np.arange(41) / 100
    scan[0, 0, 20] = 1.0
    inside = np.zeros(scan.shape, dtype=bool)
    inside[0, 0, 20] = True
    filled = fill_region(prepared(scan), inside, "shell")[0]
    near = [*range(15, 20), *range(21, 26)]
    assert filled[0, 0, 20] == pytest.approx(np.mean(scan[0, 0, near]))
    assert np.array_equal(filled[~inside], scan[~inside].astype(np.float32))


def test_noise_follows_its_seed():
    rng = np.random.default_rng(1)
    scan = rng.uniform(0.2, 0.8, (12, 12, 12)).astype(np.float32)
    inside = np.zeros(scan.shape, dtype=bool)
    inside[3:9, 3:9, 3:9] = True
    first, again, other = (fill_region(prepared(scan), inside, "noise", seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[inside].mean() == pytest.approx(scan[~inside].mean(), abs=0.05)


@pytest.mark.parametrize(
    ("region", "options", "words"),
    [
        ("brihgt", {}, "did you mean bright"),
        ("bright", {"fill": "water"}, "unknown fill 'water': use air, shell, noise"),
    ],
)
def test_what_cannot_be_replaced_is_said(explained, model, tmp_path, region, options, words):
    with pytest.raises(InputError, match=words):
        whatif(explained, region, tmp_path / "out", model=model, **options)
    assert not (tmp_path / "out").exists()


def test_another_model_is_refused(explained, model, tmp_path):
    other = SegmentationModel(model.card, model.network, "1" * 64, model.source)
    with pytest.raises(InputError, match="is not the model that"):
        whatif(explained, "bright", tmp_path / "out", model=other)


def test_an_existing_folder_is_not_replaced(explained, model, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        whatif(explained, "bright", tmp_path / "out", model=model)


def test_a_model_that_is_gone_is_asked_for(explained, tmp_path):
    with pytest.raises(InputError, match="name it with --model"):
        whatif(explained, "bright", tmp_path / "out")


def test_the_estimate_encloses_what_a_run_needs(explained, model, tmp_path):
    settings = request_of(method="smoothgrad", samples=3, device="cpu")
    found = estimate(tmp_path / "ct.nii.gz", model, settings)
    run = explain(tmp_path / "ct.nii.gz", model, tmp_path / "run", settings).document
    passes = sum(run["network_passes"].values())
    assert found.windows == run["windows"]
    assert found.passes_at_least <= passes <= found.passes_at_most
    assert 0 < found.seconds_at_least <= found.seconds_at_most
    assert found.memory_bytes > 0


def test_the_environment_names_packages_and_devices_that_compute(capsys):
    found = environment()
    assert found["packages"]["torch"] == torch.__version__
    assert found["missing"] == []
    assert [device["ok"] for device in found["devices"] if device["id"] == "cpu"] == [True]
    assert "torch" in describe_environment(found)
    assert main(["environment", "--progress", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"]


def test_a_missing_package_is_named():
    found = {**environment(), "missing": ["monai"], "problems": ["torch cannot be imported"]}
    assert "missing: monai" in describe_environment(found)
    assert "problem: torch cannot be imported" in describe_environment(found)


def test_dice_of_labels_equals_dice_of_each_mask():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 6, 7, 8))
    all_at_once = dice_of_labels(first, second, 5)
    assert all_at_once[:4] == pytest.approx([dice(first == index, second == index) for index in range(4)])
    assert np.isnan(all_at_once[4])
