"""nnU-Net folders that were really trained, where they are at hand: the prediction is that of nnU-Net's own predictor.

nnU-Net sums its windows in float16. Summed so, our logits are its own; summed in float32, as always here, labels differ at
fewer than one voxel in 10,000.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.methods import Gradient
from Agg2ExpLib.models import load_model
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Volume, crop, read_volume

NETWORKS = Path(__file__).resolve().parents[2] / "shared" / "networks"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not NETWORKS.is_dir(), reason="the trained networks are not part of the repository"),
]
torch.set_num_threads(1)
TRAINED = "nnUNetTrainer__nnUNetPlans__3d_fullres"
ISO, THICK = NETWORKS / "nnunet_iso", NETWORKS / "nnunet_aniso_regions"
ALONE = {"folds": ["0"], "mirroring": "off"}
CASES = {
    "one fold": (ISO, NETWORKS / "scan" / "ct.nii.gz", "expected_fold0_nomirror", ALONE),
    "zero border": (ISO, NETWORKS / "scan" / "ct_zero_border.nii.gz", "expected_zero_border_fold0_nomirror", ALONE),
    "regions": (THICK, THICK / "ct.nii.gz", "expected_all_mirror", {}),
    "thick slices": (THICK, THICK / "ct_thick.nii.gz", "expected_thick_all_mirror", {}),
    "folds and mirrors": (ISO, NETWORKS / "scan" / "ct.nii.gz", "expected_folds01_mirror", {}),
}


def summed_as_nnunet(case, network):
    """Return stitched logits of one fold, summed in float16 and in nnU-Net's order of windows."""
    windows = case.stitched[0].windows
    padded = windows.pad(case.stitched[0].x, 0.0)
    weight = windows.weight.half()
    total = torch.zeros((len(case.model.parts[0].classes), *windows.padded_shape), dtype=torch.half)
    weights = torch.zeros(windows.padded_shape, dtype=torch.half)
    with torch.no_grad():
        for index in np.lexsort(windows.starts.T[::-1]):
            where = windows.slices(index)
            total[(slice(None), *where)] += network(padded[(slice(None), *where)][None])[0] * weight
            weights[where] += weight
    return windows.unpad(total / weights)


@pytest.mark.parametrize("name", CASES)
def test_the_prediction_is_its_makers(name):
    home, scan, expected, options = CASES[name]
    theirs = np.load(home / expected / "logits.npz")
    case = Case.open(str(scan), load_model(home / TRAINED, **options), device="cpu")
    assert np.array_equal(case.prepared.x, theirs["data"])
    whole = case.stitched[0].network
    parts = [type(whole)([fold], case.model.card.mirror_axes) for fold in whole.folds]
    halves = [summed_as_nnunet(case, one) for one in parts]
    half = (sum(halves[1:], start=halves[0]) / len(halves)).float().numpy()
    # torch's threads and processors differ in the last place.
    assert np.abs(half - theirs["logits"]).max() <= 1e-3 * np.abs(theirs["logits"]).max()
    wanted = read_volume(home / expected / "prediction.nii.gz", kind="labels")
    found = case.prediction()
    assert found.grid.same_as(wanted.grid)
    assert (found.voxels != wanted.voxels).mean() < 1e-4
    ours = case.segmentation.parts[0].logits
    assert np.median(np.abs(ours - theirs["logits"])) < 1e-3 * np.abs(theirs["logits"]).max()
    exact = case.prepared.to_scan(case.segmentation.labels, theirs["logits"].astype(np.float32))
    assert np.array_equal(exact.voxels, wanted.voxels)


@pytest.mark.parametrize(("home", "scan"), [(ISO, NETWORKS / "scan" / "ct.nii.gz"), (THICK, THICK / "ct_thick.nii.gz")])
def test_trained_folders_keep_the_contract(home, scan):
    model = load_model(home / TRAINED, mirroring="off")
    volume = read_volume(scan)
    air = Volume(np.full(volume.shape, -1000.0, np.float32), volume.grid)
    check_model(model, [volume], nothing=[air])


def test_a_gradient_is_autograds_on_a_small_crop():
    model = load_model(ISO / TRAINED, **ALONE)
    volume = crop(read_volume(NETWORKS / "scan" / "ct.nii.gz"), [slice(15, 65), slice(10, 50), slice(20, 70)])
    case = Case.open(volume, model, device="cpu", precision="float64")
    (stitched,) = case.stitched
    windows = stitched.windows
    x = stitched.x.clone().requires_grad_(True)
    padded, weight = windows.pad(x, 0.0), windows.weight.double()
    total = torch.zeros((5, *windows.padded_shape), dtype=torch.float64)
    weights = torch.zeros(windows.padded_shape, dtype=torch.float64)
    for index in range(len(windows)):
        where = (slice(None), *windows.slices(index))
        total[where] = total[where] + stitched.network(padded[where][None])[0] * weight
        weights[windows.slices(index)] += weight
    logits = windows.unpad(total / weights)
    mask = torch.from_numpy(case.segmentation.parts[0].mask(1))
    (expected,) = torch.autograd.grad(logits[1][mask].sum(), x)
    (one,) = case.attribute(Gradient(), ["lung"])
    assert np.abs(one.full(case.prepared.shape) - expected[0].numpy()).max() < 1e-4 * float(expected.abs().max())


def test_an_explanation_of_a_trained_folder_holds_its_makers_prediction(tmp_path):
    scan = NETWORKS / "scan" / "ct.nii.gz"
    model = load_model(ISO / TRAINED, **ALONE)
    explain(scan, model, tmp_path / "out", request_of("gradient", classes=("heart",), device="cpu"))
    written = read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels")
    wanted = read_volume(ISO / "expected_fold0_nomirror" / "prediction.nii.gz", kind="labels")
    assert (written.voxels != wanted.voxels).mean() < 1e-4
