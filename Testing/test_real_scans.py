"""Real CTs, where they are at hand: read, resampled, and brought back to their own grid without a shift."""

from pathlib import Path

import numpy as np
import pytest

from Agg2ExpLib.explanation import explain
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import file_sha256, labels_to_input_grid, model_grid, read_volume, to_grid

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the real CT scans are not part of the repository"),
]
SCANS = ("abdomen_ct_3mm.nii.gz", "heart_ct_1p5mm.nii.gz", "dicom_ct")


@pytest.mark.parametrize("name", SCANS)
def test_a_real_scan_is_read_in_hounsfield_units(name):
    scan = read_volume(FOLDER / name)
    assert scan.voxels.min() < -900
    assert scan.voxels.max() > 300
    assert len(file_sha256(FOLDER / name)) == 64


@pytest.mark.parametrize("spacing", [1.5, 3.0, 4.0])
def test_real_labels_return_to_their_own_grid_without_a_shift(spacing):
    labels = read_volume(FOLDER / "abdomen_labels_3mm.nii.gz", kind="labels")
    there = to_grid(labels, model_grid(labels.grid, spacing, "RAS"), "nearest")
    back = labels_to_input_grid(there, labels.grid).voxels
    shifts = []
    for label in np.unique(labels.voxels)[1:]:
        mask = labels.voxels == label
        if mask.sum() >= 400:
            shifts.append(np.argwhere(back == label).mean(axis=0) - np.argwhere(mask).mean(axis=0))
    assert len(shifts) > 30
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.15
    # On a coarser grid thin structures lose pieces, and with them their middle.
    assert spacing > 3.0 or np.abs(shifts).max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", SCANS)
def test_the_main_job_runs_on_a_real_scan(name, tmp_path):
    scan = read_volume(FOLDER / name)
    found = explain(FOLDER / name, "thorax-phantom", tmp_path / "out",
                    request_of(method="gradient", classes=("heart", "trachea"), device="cpu"),
                    regions={"artery": FOLDER / "heart_pulmonary_artery_1p5mm.nii.gz"} if "heart" in name else {})  # fmt: skip
    assert read_volume(tmp_path / "out" / "prediction.nii.gz", kind="labels").grid.same_as(scan.grid)
    mass = found.importance.matrix("mass")
    assert ((np.isclose(mass[:, :17].sum(axis=1), 1)) | np.isnan(mass).all(axis=1)).all()
