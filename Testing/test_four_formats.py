"""One CT as a DICOM series, NIfTI, NRRD and enhanced DICOM, each in an orientation of its own, gives the same importance."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from Agg2ExpLib.explanation import explain
from Agg2ExpLib.models import load_model
from Agg2ExpLib.request import request_of
from Agg2ExpLib.volume import Grid, Volume, read_volume
from Testing.dicom_writing import write_enhanced, write_series
from Testing.small_networks import write_case

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom_ct"
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_case(tmp_path_factory.mktemp("model"))[1])


def made():
    """Return a CT of whole numbers on an oblique grid."""
    rng = np.random.default_rng(3)
    hu = rng.normal(-900, 20, (24, 20, 22))
    hu[6:14, 5:12, 4:15] = rng.normal(0, 20, (8, 7, 11))
    hu[15:20, 8:14, 6:16] = rng.normal(800, 20, (5, 6, 10))
    cosine, sine = np.cos(0.2), np.sin(0.2)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-cosine, 0, sine], [0, -1, 0], [sine, 0, cosine]]) * (1.7, 1.9, 2.3)
    affine[:3, 3] = (20, -30, 110)
    return Volume(np.rint(hu), Grid(hu.shape, affine))


def real():
    """Return the middle of a real CT."""
    scan = read_volume(REAL)
    first = [max((count - wanted) // 2, 0) for count, wanted in zip(scan.shape, (40, 40, 16), strict=True)]
    part = tuple(slice(start, start + wanted) for start, wanted in zip(first, (40, 40, 16), strict=True))
    shift = np.eye(4)
    shift[:3, 3] = first
    voxels = np.rint(scan.voxels[part])
    return Volume(voxels, Grid(voxels.shape, scan.affine @ shift))


def files_of(folder, scan):
    """Write the scan four times, and return the paths."""
    hu, affine = scan.voxels.transpose(2, 1, 0), RAS @ scan.affine
    places = affine[:3, 3] + np.arange(len(hu))[:, None] * affine[:3, 2]
    spacing = scan.spacing
    axes = (affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1])
    write_series(folder / "series", hu, spacing=spacing, axes=axes, change=lambda k: {"position": places[k]})
    enhanced = write_enhanced(folder / "ct.dcm", hu[::-1], places[::-1], axes=axes, spacing=spacing[:2])
    # The same voxels, stored from the other ends and with the axes in another order.
    image = nibabel.Nifti1Image(scan.voxels.astype(np.int16), scan.affine)
    turned = nibabel.orientations.apply_orientation(image.dataobj, [[2, -1], [0, 1], [1, -1]])
    back = nibabel.orientations.inv_ornt_aff([[2, -1], [0, 1], [1, -1]], image.shape)
    nibabel.save(nibabel.Nifti1Image(turned, scan.affine @ back), folder / "ct.nii.gz")
    nrrd = sitk.GetImageFromArray(hu.astype(np.int16))
    nrrd.SetSpacing(spacing)
    nrrd.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    nrrd.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(sitk.Flip(nrrd, (True, False, True)), str(folder / "ct.nrrd"), useCompression=True)
    return [folder / "series", folder / "ct.nii.gz", folder / "ct.nrrd", enhanced]


@pytest.mark.parametrize(
    "make",
    [
        made,
        pytest.param(
            real,
            marks=[pytest.mark.real_data, pytest.mark.skipif(not REAL.is_dir(), reason="the real CT is not at hand")],
        ),
    ],
)
def test_the_importance_does_not_depend_on_the_format(tmp_path, model, make):
    scan = make()
    assert np.ptp(scan.voxels) > 50
    tables = []
    for path in files_of(tmp_path, scan):
        found = read_volume(path)
        # Every voxel is where it was.
        index = np.argwhere(found.voxels == scan.voxels.max())[0]
        assert scan.voxels[tuple(np.rint(scan.grid.world_to_index(found.grid.index_to_world(index))).astype(int))] == (
            scan.voxels.max()
        )
        table = explain(path, model, request=request_of("gradient", classes=("one",), device="cpu")).importance
        tables.append(np.stack([table.matrix("mass"), table.matrix("enrichment")]))
    assert np.isfinite(tables[0]).any()
    for other in tables[1:]:
        assert np.allclose(other, tables[0], atol=1e-4, equal_nan=True)
