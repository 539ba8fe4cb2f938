"""NIfTI, NRRD and MetaImage: which placement was used, what the file does not say, labels saved with a scale."""

import gzip
import hashlib
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import Grid, Volume, file_sha256, read_volume, write_volume

STRAIGHT = np.diag([-2.0, -2.0, 3.0, 1.0])


def hu(shape=(8, 9, 10), seed=0):
    return np.random.default_rng(seed).integers(-1000, 1500, shape).astype(np.int16)


def nifti(path, sform, s_code, qform, q_code, voxels=None, kind=nibabel.Nifti1Image):
    image = kind(hu() if voxels is None else voxels, STRAIGHT)
    image.set_sform(sform, s_code)
    image.set_qform(qform, q_code)
    nibabel.save(image, path)
    return path


def changed(where, value):
    affine = STRAIGHT.copy()
    affine[where] = value
    return affine


@pytest.mark.parametrize(
    ("qform", "words"),
    [
        (changed((0, 0), 2.0), ("28 mm", "left and right are swapped")),
        (changed((1, 1), 2.0), ("32 mm", "front and back are swapped")),
        (np.diag([2.0, 2.0, 3.0, 1.0]), ("left and right, front and back are swapped",)),
        (changed((0, 3), 50.0), ("disagree by up to 50 mm",)),
        (changed((2, 3), 0.3), ("disagree by up to 0.3 mm",)),
        (changed((2, 2), 3.5), ("disagree by up to 4.5 mm",)),
    ],
)
@pytest.mark.parametrize("code", [1, 2])
def test_a_qform_that_disagrees_is_said_in_millimetres_and_the_sform_is_used(tmp_path, qform, words, code):
    found = read_volume(nifti(tmp_path / "scan.nii.gz", STRAIGHT, code, qform, 1))
    assert np.allclose(found.affine, STRAIGHT, atol=1e-4)
    (note,) = found.notes
    assert "the sform was used" in note
    for word in words:
        assert word in note


def test_placements_that_agree_are_not_mentioned(tmp_path):
    assert read_volume(nifti(tmp_path / "scan.nii.gz", STRAIGHT, 1, STRAIGHT, 1)).notes == ()
    assert read_volume(nifti(tmp_path / "scan.nii.gz", STRAIGHT, 1, None, 0)).notes == ()
    found = read_volume(nifti(tmp_path / "scan.nii.gz", None, 0, STRAIGHT, 1))
    assert found.notes == ()
    assert np.allclose(found.affine, STRAIGHT, atol=1e-5)


def test_a_singular_sform_gives_way_to_the_qform_and_it_is_said(tmp_path):
    path = nifti(tmp_path / "scan.nii", STRAIGHT, 1, STRAIGHT, 1)
    content = bytearray(path.read_bytes())
    struct.pack_into("<12f", content, 280, *[0.0] * 12)
    path.write_bytes(bytes(content))
    found = read_volume(path)
    assert np.allclose(found.affine, STRAIGHT, atol=1e-5)
    assert "sform is singular; its qform was used" in found.notes[0]


@pytest.mark.parametrize("qform", [None, STRAIGHT])
@pytest.mark.parametrize("kind", ["map", "labels"])
def test_a_sheared_sform_is_kept_by_moving_the_slices_and_said(tmp_path, qform, kind):
    sheared = changed((1, 2), 0.4)
    block = np.zeros((12, 13, 14), np.int16)
    block[4:8, 4:9, 3:11] = 1
    found = read_volume(
        nifti(tmp_path / "scan.nii.gz", sheared, 1, qform, 1 if qform is not None else 0, block), kind=kind
    )
    index = np.stack(np.meshgrid(*map(np.arange, found.shape), indexing="ij"), axis=-1)
    centre = (found.grid.index_to_world(index) * found.voxels[..., None]).sum(axis=(0, 1, 2)) / found.voxels.sum()
    true = sheared[:3, :3] @ np.argwhere(block).mean(axis=0) + sheared[:3, 3]
    assert np.allclose(centre, true, atol=1e-3 if kind == "map" else 0.3)
    assert any("moved within its plane" in note for note in found.notes)
    assert qform is None or any("qform disagree" in note for note in found.notes)


def test_slices_that_are_sheared_themselves_are_refused(tmp_path):
    with pytest.raises(InputError, match="not perpendicular"):
        read_volume(nifti(tmp_path / "scan.nii.gz", changed((0, 1), 0.6), 1, None, 0))


@given(
    st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    st.sampled_from(["<", ">"]),
    st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
    st.sampled_from([(1.0, 0.0), (0.5, -3.0), (2.0, 10.0)]),
    st.booleans(),
    st.sampled_from([".nii", ".nii.gz"]),
    st.floats(-1.2, 1.2),
)
@settings(max_examples=60, deadline=None)
def test_any_nifti_is_read_as_nibabel_reads_it(tmp_path_factory, kind, order, dtype, scale, by_qform, suffix, angle):
    path = tmp_path_factory.mktemp("nifti") / f"scan{suffix}"
    affine = np.eye(4)
    affine[:3, :3] = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]] * np.array(
        [1.5, 2, 3]
    )
    affine[:3, 3] = (-40, 30, 7)
    stored = np.random.default_rng(1).integers(0, 200, (5, 6, 7)).astype(dtype)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    image = kind(stored, affine, header)
    image.set_sform(None if by_qform else affine, 0 if by_qform else 2)
    image.set_qform(affine, 1)
    nibabel.save(image, path)
    # The scale is written afterwards: nibabel would rescale what is stored.
    content = bytearray(path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes()))
    form, where = ("2f", 112) if kind is nibabel.Nifti1Image else ("2d", 176)
    struct.pack_into(order + form, content, where, *scale)
    path.write_bytes(bytes(content) if suffix == ".nii" else gzip.compress(bytes(content)))
    theirs = nibabel.load(path)
    found = read_volume(path, kind="map")
    assert np.allclose(found.voxels, theirs.get_fdata(), rtol=1e-6)
    assert np.allclose(found.affine, theirs.affine, atol=1e-4)
    assert found.sha256 == file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64])
def test_nrrd_and_metaimage_are_read_as_simpleitk_reads_them(tmp_path, suffix, compressed, dtype):
    path = tmp_path / f"scan{suffix}"
    image = sitk.GetImageFromArray(np.random.default_rng(2).integers(0, 200, (7, 6, 5)).astype(dtype))
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((4.0, 5.0, -6.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(path), useCompression=compressed)
    found = read_volume(path, kind="map")
    assert np.array_equal(found.voxels, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    place = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3))) * (-1, -1, 1)
    assert np.allclose(found.grid.index_to_world((1, 2, 3)), place)
    assert found.notes == ()
    assert found.sha256 == file_sha256(path)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("space: left-posterior-superior\nspace directions: (2,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)", []),
        ("spacings: 2 2 3", ["no position", "no orientation"]),
        ("spacings: 2 2 3\naxis mins: 1 2 3", ["no orientation"]),
        ("spacings: 2 nan 3\naxis mins: 0 0 0", ["no voxel size along axis 2; 1 mm", "no orientation"]),
        ("space: left-posterior-superior\nspace directions: (2,0,0) (0,2,0) (0,0,3)", ["no position"]),
        ("space dimension: 3\nspace directions: (2,0,0) (0,2,0) (0,0,3)", ["no position", "no orientation"]),
        ("", ["no position", "no voxel size", "no orientation"]),
    ],
)
def test_an_nrrd_without_spacing_or_orientation_says_so(tmp_path, lines, told):
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 8 9 10\nendian: little\nencoding: raw\n{lines}"
    path = tmp_path / "scan.nrrd"
    path.write_bytes(f"{head.rstrip()}\n\n".encode() + hu().tobytes(order="F"))
    found = read_volume(path)
    assert np.array_equal(found.voxels, hu())
    assert [any(word in note for note in found.notes) for word in told] == [True] * len(told)
    assert len(found.notes) == len(told)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("Offset = 1 2 3\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 2 2 3\n", []),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 2 2 3\n", ["no position; its first voxel"]),
        ("Position = 1 2 3\nElementSpacing = 2 2 3\n", ["no orientation"]),
        ("Origin = 1 2 3\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n", ["no voxel size"]),
        ("", ["no position", "no voxel size", "no orientation"]),
    ],
)
def test_a_metaimage_without_spacing_or_orientation_says_so(tmp_path, lines, told):
    head = f"ObjectType = Image\nNDims = 3\n{lines}DimSize = 8 9 10\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path = tmp_path / "scan.mha"
    path.write_bytes(head.encode() + hu().tobytes(order="F"))
    found = read_volume(path)
    assert np.array_equal(found.voxels, hu())
    assert [any(word in note for note in found.notes) for word in told] == [True] * len(told)
    assert len(found.notes) == len(told)


@pytest.mark.parametrize(
    ("matrix", "letters", "told"),
    [
        ("1 0 0 0 1 0 0 0 1", "RAI", ""),
        ("1 0 0 0 1 0 0 0 1", "LPS", ""),
        ("1 0 0 0 1 0 0 0 1", "???", ""),
        ("0 1 0 0 0 -1 1 0 0", "ASR", ""),
        ("1 0 0 0 1 0 0 0 1", "LAI", "LAI, contradicts its matrix, which says RAI"),
        ("1 0 0 0 1 0 0 0 -1", "RAI", "RAI, contradicts its matrix, which says RAS"),
        ("0 1 0 1 0 0 0 0 1", "RAI", "RAI, contradicts its matrix, which says ARI"),
    ],
)
def test_a_metaimage_whose_letters_contradict_its_matrix_says_so(tmp_path, matrix, letters, told):
    lines = ["ObjectType = Image", "NDims = 3", f"TransformMatrix = {matrix}", "Offset = 0 0 0", "ElementSpacing = 2 2 3",
             f"AnatomicalOrientation = {letters}", "DimSize = 8 9 10",
             "ElementType = MET_SHORT", "ElementDataFile = LOCAL"]  # fmt: skip
    (tmp_path / "scan.mha").write_bytes("\n".join(lines).encode() + b"\n" + hu().tobytes())
    notes = read_volume(tmp_path / "scan.mha").notes
    assert len(notes) == bool(told)
    assert told in "".join(notes)


@pytest.mark.parametrize(
    ("place", "told"), [(280, "sform is not finite; its qform"), (256, "qform is not finite; the sform")]
)
def test_a_placement_that_is_not_finite_is_said(tmp_path, place, told):
    path = nifti(tmp_path / "scan.nii", STRAIGHT, 1, STRAIGHT, 1)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, place, float("nan"))
    path.write_bytes(bytes(content))
    found = read_volume(path)
    assert np.allclose(found.affine, STRAIGHT, atol=1e-5)
    (note,) = found.notes
    assert told in note
    # Neither code leaves one that can be used: 252 is that of the qform, 254 that of the sform.
    struct.pack_into("<h", content, 252 if place == 280 else 254, 0)
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="direction matrix is not finite"):
        read_volume(path)


@pytest.mark.parametrize(("units", "refused"), [('"cm" "cm" "cm"', True), ('"mm" "" "mm"', False)])
def test_an_nrrd_whose_axes_are_in_other_units_is_refused(tmp_path, units, refused):
    path = tmp_path / "scan.nrrd"
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 8 9 10", "encoding: raw", "endian: little",
             "spacings: 2 2 3", f"units: {units}"]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + hu().tobytes())
    if refused:
        with pytest.raises(InputError, match="states lengths in 'cm'"):
            read_volume(path)
    else:
        assert read_volume(path).spacing == (2.0, 2.0, 3.0)


@pytest.mark.parametrize("line", ['space units: "cm" "cm" "cm"', 'space units: "mm" "mm" "um"'])
def test_an_nrrd_in_other_units_than_millimetres_is_refused(tmp_path, line):
    path = tmp_path / "scan.nrrd"
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 8 9 10", "encoding: raw", "endian: little",
             "space: left-posterior-superior", line,
             "space directions: (2,0,0) (0,2,0) (0,0,3)", "space origin: (0,0,0)"]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + hu().tobytes())
    with pytest.raises(InputError, match="states lengths in"):
        read_volume(path)
    path.write_bytes(path.read_bytes().replace(line.encode(), b'space units: "mm" "mm" "mm"'))
    assert read_volume(path).spacing == (2.0, 2.0, 3.0)


def test_an_nrrd_whose_spacing_is_a_word_is_refused(tmp_path):
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 8 9 10\nendian: little\nencoding: raw\nspacings: 2 two 3\n\n"
    (tmp_path / "scan.nrrd").write_bytes(head.encode() + hu().tobytes())
    with pytest.raises(InputError, match="no number"):
        read_volume(tmp_path / "scan.nrrd")


@pytest.mark.parametrize("space", ["3D-right-handed", "scanner-xyz"])
def test_a_space_that_is_not_the_patients_is_no_orientation(tmp_path, space):
    path = tmp_path / "scan.nrrd"
    lines = ["NRRD0004", "type: short", "dimension: 3", "sizes: 8 9 10", "encoding: raw", "endian: little", f"space: {space}",
             "space directions: (2,0,0) (0,2,0) (0,0,3)", "space origin: (0,0,0)"]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + hu().tobytes())
    assert ["states no orientation" in note for note in read_volume(path).notes] == [True]


def test_a_metaimage_in_other_units_than_millimetres_is_refused(tmp_path):
    path = tmp_path / "scan.mha"
    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 8 9 10", "ElementSpacing = 0.2 0.2 0.3", "DistanceUnits = cm",
             "TransformMatrix = 1 0 0 0 1 0 0 0 1", "ElementType = MET_SHORT", "ElementDataFile = LOCAL"]  # fmt: skip
    path.write_bytes("\n".join(lines).encode() + b"\n" + hu().tobytes())
    with pytest.raises(InputError, match="states lengths in 'cm'"):
        read_volume(path)


def test_a_scan_impossibly_far_away_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(hu(), changed((0, 3), 1e12)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"its voxels lie 1e\+12 mm from the origin"):
        read_volume(tmp_path / "scan.nii.gz")


@pytest.mark.parametrize("spacing", [1e20, 1e-6, 5000])
def test_a_voxel_of_impossible_size_is_refused(tmp_path, spacing):
    affine = STRAIGHT.copy()
    affine[1, 1] = -spacing
    nibabel.save(nibabel.Nifti1Image(hu(), affine), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"no voxel measures 2 x .* x 3 mm; export the scan again with its spacing"):
        read_volume(tmp_path / "scan.nii.gz")


def test_a_big_endian_nrrd_is_read(tmp_path):
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 8 9 10\nendian: big\nencoding: raw"
    head += "\nspace: RAS\nspace directions: (2,0,0) (0,2,0) (0,0,3)"
    path = tmp_path / "scan.nrrd"
    path.write_bytes(f"{head}\n\n".encode() + hu().astype(">i2").tobytes(order="F"))
    found = read_volume(path)
    assert np.array_equal(found.voxels, hu())
    assert found.grid.axcodes == "RAS"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_labels_saved_with_a_scale_are_rounded_and_it_is_said(tmp_path, dtype):
    labels = np.random.default_rng(3).integers(0, 4, (8, 8, 8)).astype(float)
    image = nibabel.Nifti1Image(labels, STRAIGHT)
    image.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "labels.nii.gz")
    exact = nibabel.load(tmp_path / "labels.nii.gz").get_fdata()
    found = read_volume(tmp_path / "labels.nii.gz", kind="labels")
    assert np.array_equal(found.voxels, labels)
    assert any("were rounded" in note for note in found.notes) == (not np.array_equal(exact.astype(np.float32), labels))


@pytest.mark.parametrize("fraction", [0.5, 1.02, 2.97])
def test_real_fractions_are_no_labels_but_may_be_a_mask(tmp_path, fraction):
    voxels = np.zeros((8, 8, 8), np.float32)
    voxels[2:5, 2, 2] = fraction
    path = write_volume(Volume(voxels, Grid((8, 8, 8), STRAIGHT)), tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match="holds fractions"):
        read_volume(path, kind="labels")
    assert read_volume(path, kind="mask").voxels.sum() == 3


def test_a_mask_whose_zero_came_back_as_a_trace_has_no_trace_inside(tmp_path):
    voxels = np.full((8, 8, 8), 0.002, np.float32)
    voxels[1, 1, 1] = 0.998
    path = write_volume(Volume(voxels, Grid((8, 8, 8), STRAIGHT)), tmp_path / "mask.nii.gz")
    assert read_volume(path, kind="mask").voxels.sum() == 1


def test_damaged_compressed_data_is_refused(tmp_path):
    path = write_volume(
        Volume(hu((20, 20, 20)).astype(np.float32), Grid((20, 20, 20), STRAIGHT)), tmp_path / "scan.nii.gz"
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"the compressed data is damaged|cut short"):
        read_volume(path)
