"""Scans that cannot be used: one sentence that names the file and the cause, exit code 2, nothing half-written."""

import gzip
import os
import shutil
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import Grid, Volume, model_grid, read_volume, write_volume


def scan(shape=(16, 16, 16)):
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return Volume(rng.uniform(-1000, 1500, shape).astype(np.float32), Grid(shape, affine))


def nifti(path, change=lambda header: None, body=None):
    """Write a small uncompressed NIfTI file and change its header."""
    write_volume(scan(), path)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content) if body is None else bytes(content[:352]) + body)
    return path


def put(offset, form, *values):
    return lambda header: struct.pack_into("<" + form, header, offset, *values)


def missing(folder):
    write_volume(scan(), folder / "scam.nii.gz")
    return folder / "scan.nii.gz"


def empty_folder(folder):
    (folder / "series").mkdir()
    (folder / "series" / "notes.txt").write_text("no image")
    return folder / "series"


def truncated_gzip(folder):
    path = write_volume(scan(), folder / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def text(folder):
    (folder / "scan.nii.gz").write_text("this is a letter, not a scan\n" * 50)
    return folder / "scan.nii.gz"


def packed_text(folder):
    (folder / "scan.nii.gz").write_bytes(gzip.compress(b"this is a letter, not a scan\n" * 50))
    return folder / "scan.nii.gz"


def flat(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((16, 16), np.float32)), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


def one_slice(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 16, 16), np.float32)), str(folder / "scan.mha"))
    return folder / "scan.mha"


def four_axes(folder):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((3, 8, 8, 8), np.float32), isVector=False), str(folder / "scan.nii.gz")
    )
    return folder / "scan.nii.gz"


def no_voxels(folder):
    return nifti(folder / "scan.nii", put(40, "8h", 3, 16, 0, 16, 1, 1, 1, 1))


def one_voxel(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 1, 1), np.float32)), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


def no_numbers(folder):
    return nifti(folder / "scan.nii", body=np.full(16**3, np.nan, np.float32).tobytes())


def zero_spacing(folder):
    return nifti(folder / "scan.nii", put(80, "f", 0.0))


def negative_spacing(folder):
    (folder / "scan.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nElementSpacing = 1 -1 1\nDimSize = 8 8 8\nElementType = MET_SHORT\n"
        b"ElementDataFile = LOCAL\n" + bytes(1024)
    )
    return folder / "scan.mha"


def singular(folder):
    (folder / "scan.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nTransformMatrix = 1 0 0 1 0 0 0 0 1\nElementSpacing = 1 1 1\nDimSize = 8 8 8\n"
        b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + bytes(1024)
    )
    return folder / "scan.mha"


def singular_sform(folder):
    return nifti(folder / "scan.nii", lambda h: [put(252, "2h", 0, 1)(h), put(280, "12f", *[0.0] * 12)(h)])


def huge_claim(folder):
    return nifti(folder / "scan.nii", put(40, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1))


def large_claim_in_a_tiny_file(folder):
    return nifti(folder / "scan.nii", put(40, "8h", 3, 1500, 1500, 1500, 1, 1, 1, 1))


def colours(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8, 8, 3), np.uint8), isVector=True), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


def jpeg(folder):
    (folder / "scan.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    return folder / "scan.jpg"


def outside_data_file(folder):
    (folder / "scan.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_SHORT\nElementDataFile = ../../etc/passwd\n"
    )
    return folder / "scan.mhd"


def wrong_ndims(folder):
    (folder / "scan.mha").write_bytes(
        b"ObjectType = Image\nNDims = 99999999999\nElementSpacing = 1 1 1\nDimSize = 8 8 8\nElementType = MET_SHORT\n"
        b"ElementDataFile = LOCAL\n" + bytes(1024)
    )
    return folder / "scan.mha"


def more_rows_than_pixels(folder):
    series = dicom_series(folder / "series", range(0, 24, 3))
    for file in series.iterdir():
        content = file.read_bytes()
        at = content.find(b"\x28\x00\x10\x00\x02\x00\x00\x00") + 8
        file.write_bytes(content[:at] + struct.pack("<H", 18) + content[at + 2 :])
    return series


def smaller_than_the_models_voxels(folder):
    return write_volume(Volume(scan().voxels[:4], Grid((4, 16, 16), np.diag([0.5, 2, 3, 1.0]))), folder / "scan.nii.gz")


CASES = [
    (missing, "there is no such file; did you mean scam.nii.gz"),
    (empty_folder, "the folder holds no DICOM series"),
    (truncated_gzip, "is cut short"),
    (text, "not NIfTI whatever its name says"),
    (packed_text, "not NIfTI whatever its name says"),
    (flat, "a single 2D slice"),
    (one_slice, "a single 2D slice"),
    (four_axes, "4 dimensions"),
    (no_voxels, "the image is empty"),
    (one_voxel, "the volume is too small"),
    (no_numbers, "no voxel holds a number"),
    (zero_spacing, "spacing is zero, negative or no number"),
    (negative_spacing, "spacing is zero, negative or no number"),
    (singular, "direction matrix is singular"),
    (singular_sform, "the direction matrix is singular"),
    (huge_claim, "claims 2.7e+13 voxels"),
    (large_claim_in_a_tiny_file, "is cut short"),
    (colours, "3 numbers per voxel"),
    (jpeg, "cannot be read"),
    (outside_data_file, "outside its own folder"),
    (wrong_ndims, "NDims and DimSize disagree"),
    (more_rows_than_pixels, "is cut short: its header promises 576 bytes"),
    (smaller_than_the_models_voxels, "the scan has only 1 x"),
]


@pytest.mark.parametrize(("make", "words"), CASES, ids=[make.__name__ for make, _ in CASES])
def test_a_scan_that_cannot_be_used_is_one_sentence(tmp_path, capsys, make, words):
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code = main(["explain", str(path), "--out", str(tmp_path / "out"), "--progress", "none"])
    error = capsys.readouterr().err
    assert code == 2, error
    assert str(path) in error
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.nii", "scan.nii.gz", "scan.mha"])
def test_voxels_without_a_number_become_air_and_it_is_said(tmp_path, name):
    volume = scan((9, 10, 11))
    volume.voxels[3, 4, 5], volume.voxels[6, 6, 6] = np.nan, np.inf
    sitk.WriteImage(sitk.GetImageFromArray(volume.voxels.transpose(2, 1, 0)), str(tmp_path / name))
    found = read_volume(tmp_path / name)
    assert (found.voxels == -1024).sum() == 2
    assert found.voxels[3, 4, 5] == found.voxels[6, 6, 6] == -1024
    assert any("2 voxels had no finite value and were set to -1024 HU" in note for note in found.notes)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 1, "as in MR or in a scan scaled beforehand"),
        (0, 3000, "lost its offset of -1024"),
        (-1000, -100, "no soft tissue"),
        (-1e6, 1e6, "beyond anything a CT scanner gives"),
    ],
)
def test_intensities_that_cannot_be_hounsfield_units_are_warned_of(tmp_path, low, high, words):
    voxels = np.linspace(low, high, 512, dtype=np.float32).reshape(8, 8, 8)
    path = write_volume(Volume(voxels, Grid((8, 8, 8), np.eye(4))), tmp_path / "scan.nii.gz")
    assert any(words in note for note in read_volume(path).notes)


def test_a_ct_in_hounsfield_units_is_not_warned_of(tmp_path):
    assert read_volume(write_volume(scan(), tmp_path / "scan.nii.gz")).notes == ()


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_a_mask_has_something_above_zero_and_only_finite_values(tmp_path, capsys, wrong):
    voxels = np.zeros((8, 8, 8), np.float32)
    voxels[1, 1, 1] = wrong
    mask = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(mask))
    image = write_volume(scan(), tmp_path / "scan.nii.gz")
    assert (
        main(["explain", str(image), "--out", str(tmp_path / "out"), "--roi", f"x={mask}", "--progress", "none"]) == 2
    )
    error = capsys.readouterr().err
    assert str(mask) in error
    assert not (tmp_path / "out").exists()


def dicom_series(folder, positions, size=16):
    folder.mkdir()
    uid = "1.2.826.0.1.3680043.2.1125.1.1"
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, position in enumerate(positions):
        voxels = np.full((1, size, size), -1000 + 10 * number, np.int16)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((1.5, 1.5, 3.0))
        for key, value in {
            "0008|0060": "CT", "0020|000e": uid, "0020|000d": uid + ".2", "0008|0018": f"{uid}.3.{number + 1}",
            "0020|0032": f"0\\0\\{position}", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(number),
            "0028|1052": "0", "0028|1053": "1",
        }.items():  # fmt: skip
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number:03}.dcm"))
        writer.Execute(image)
    return folder


def test_a_dicom_series_is_read_in_the_order_of_its_positions(tmp_path):
    found = read_volume(dicom_series(tmp_path / "series", [3 * n for n in range(8)][::-1]))
    assert found.shape == (16, 16, 8)
    assert found.spacing == pytest.approx((1.5, 1.5, 3.0))
    # The file written first lies highest.
    assert found.affine[2, 2] > 0
    assert found.voxels[0, 0].tolist() == [-1000 + 10 * number for number in range(8)][::-1]


def test_a_missing_slice_is_told(tmp_path):
    found = read_volume(dicom_series(tmp_path / "series", [0, 3, 6, 12, 15, 18]))
    assert any("slices may be missing" in note for note in found.notes)


def test_a_damaged_first_slice_is_told(tmp_path):
    folder = dicom_series(tmp_path / "series", range(0, 30, 3))
    first = folder / "000.dcm"
    first.write_bytes(first.read_bytes()[:200])
    assert any("1 DICOM file of the folder could not be read" in note for note in read_volume(folder).notes)


@pytest.mark.parametrize(("unit", "factor"), [(1, 0.001), (3, 1000.0)])
def test_nifti_files_in_metres_or_micrometres_are_read_in_millimetres(tmp_path, unit, factor):
    path = write_volume(scan(), tmp_path / "scan.nii")
    expected = read_volume(path).affine
    content = bytearray(path.read_bytes())
    content[123] = unit
    for offset, count in ((80, 3), (268, 3), (280, 12)):
        numbers = np.frombuffer(content, "<f4", count, offset) * factor
        content[offset : offset + 4 * count] = numbers.astype("<f4").tobytes()
    path.write_bytes(bytes(content))
    assert np.allclose(read_volume(path).affine, expected, rtol=1e-4)


def test_an_absurdly_fine_model_is_refused_before_memory_is_taken(tmp_path, capsys):
    path = write_volume(scan(), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="use a coarser --spacing"):
        model_grid(read_volume(path).grid, 0.01)


def test_a_slice_of_another_size_is_refused(tmp_path, capsys):
    folder = dicom_series(tmp_path / "series", [0, 3, 6, 9, 12])
    other = dicom_series(tmp_path / "other", [15], size=8)
    shutil.copy(other / "000.dcm", folder / "900.dcm")
    assert main(["explain", str(folder), "--out", str(tmp_path / "out"), "--progress", "none"]) == 2
    assert str(folder) in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt" or (hasattr(os, "geteuid") and os.geteuid() == 0), reason="root may read anything")
def test_a_file_without_permission_is_told(tmp_path, capsys):
    path = write_volume(scan(), tmp_path / "scan.nii.gz")
    path.chmod(0)
    assert main(["explain", str(path), "--out", str(tmp_path / "out"), "--progress", "none"]) == 2
    assert "permission" in capsys.readouterr().err
