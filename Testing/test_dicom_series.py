"""DICOM series: every slice where its header says, or a refusal that names the slice and the next step."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation.document import image_entry, scan_of, voxels_sha256
from Agg2ExpLib.volume import file_sha256, read_volume
from Testing.dicom_writing import (
    DOSE_REPORT,
    ENHANCED_MR,
    PRESENTATION,
    SECONDARY_CAPTURE,
    save,
    start,
    write_enhanced,
    write_series,
    write_slice,
)

RAS = np.array([-1.0, -1.0, 1.0])


def numbers(n=8, rows=10, columns=12, seed=0):
    """Return slices of whole Hounsfield units, shape (n, rows, columns)."""
    return np.random.default_rng(seed).integers(-1000, 1500, (n, rows, columns)).astype(float)


def field(x, y, z):
    """A linear field of LPS millimetres: interpolation does not change it."""
    return 100 + 3.0 * x - 2.0 * y + 4.0 * z


def linear_slices(positions, axes, rows=12, columns=10, spacing=(2.0, 2.0)):
    j, i = np.mgrid[:rows, :columns]
    row, column = np.asarray(axes, float)
    made = []
    for position in np.asarray(positions, float):
        places = position + i[..., None] * spacing[0] * row + j[..., None] * spacing[1] * column
        made.append(field(*np.moveaxis(places, -1, 0)))
    return np.array(made)


def largest_error(volume, outside=-1024):
    """How far values differ from the field at their own places; voxels that no slice reaches are left aside."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    places = volume.grid.index_to_world(index) * RAS
    there = volume.voxels > outside + 1e-3
    assert there.mean() > 0.3
    # At the very edge of a slice half a voxel beyond its last centre still counts, and there the edge value holds.
    return np.abs(volume.voxels - field(*np.moveaxis(places, -1, 0)))[there]


def refused(path, words, **options):
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert words in text
    assert str(path) in text
    assert "\n" not in text
    return text


# Gantry tilt and other slices that do not lie straight above each other


@pytest.mark.parametrize("degrees", [1, 3, -12, 20])
def test_a_tilted_gantry_is_straightened_exactly_and_said(tmp_path, degrees):
    angle = np.deg2rad(degrees)
    axes = ((1, 0, 0), (0, np.cos(angle), np.sin(angle)))
    positions = [(5, -7, 2.5 * k) for k in range(20)]
    slices = linear_slices(positions, axes)
    write_series(
        tmp_path / "s",
        slices,
        axes=axes,
        origin=positions[0],
        step=(0, 0, 2.5),
        spacing=(2, 2, 2.5),
        slope=0.01,
        intercept=0,
    )
    found = read_volume(tmp_path / "s")
    errors = largest_error(found)
    # Half a voxel beyond a slice's last row the edge value holds: 1 mm of a slope of at most 4.5 per mm.
    assert np.median(errors) < 0.02
    assert np.quantile(errors, 0.9) < 6
    assert any(f"tilted by {abs(degrees):.1f} degrees" in note for note in found.notes)
    assert np.allclose(found.spacing[2], 2.5 * np.cos(angle), atol=1e-6)


def test_a_tilt_about_the_other_axis_is_straightened_too(tmp_path):
    angle = np.deg2rad(10)
    axes = ((np.cos(angle), 0, np.sin(angle)), (0, 1, 0))
    slices = linear_slices([(0, 0, -3.0 * k) for k in range(12)], axes)
    write_series(tmp_path / "s", slices, axes=axes, step=(0, 0, -3.0), slope=0.01, intercept=0)
    assert np.median(largest_error(read_volume(tmp_path / "s"))) < 0.02


def test_a_table_that_shifted_is_refused_with_the_slice(tmp_path):
    write_series(tmp_path / "s", numbers(), change=lambda k: {"position": (0 if k < 5 else 4, 0, 3 * k)})
    text = refused(tmp_path / "s", "IM0005.dcm at (4, 0, 15) mm lies 4 mm aside of IM0004.dcm")
    assert "keep the slices of one volume" in text


def test_a_drift_of_two_slopes_is_refused(tmp_path):
    write_series(tmp_path / "s", numbers(20), change=lambda k: {"position": (0.08 * max(k - 10, 0), 0, 3 * k)})
    refused(tmp_path / "s", "drift aside unevenly")


def test_rounded_positions_are_no_tilt(tmp_path):
    hu = numbers(30)
    write_series(tmp_path / "s", hu, change=lambda k: {"position": (0.01 * (k % 2), 0, round(0.625 * k, 1))})
    found = read_volume(tmp_path / "s")
    assert found.notes == ()
    assert found.spacing[2] == pytest.approx(0.625, abs=0.005)
    assert np.array_equal(found.voxels, hu.transpose(2, 1, 0))


# The same slice twice


def test_the_same_file_twice_is_left_out_and_said(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    before = read_volume(folder)
    shutil.copy(folder / "IM0003.dcm", folder / "copy of IM0003.dcm")
    found = read_volume(folder)
    assert any("1 file is a copy of a slice" in note for note in found.notes)
    assert found.spacing == before.spacing
    assert np.array_equal(found.voxels, before.voxels)
    assert found.sha256 == before.sha256


def test_every_slice_twice_is_one_volume(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    for file in list(folder.iterdir()):
        shutil.copy(file, folder / f"again {file.name}")
    found = read_volume(folder)
    assert found.shape[2] == 8
    assert any("8 files are copies" in note for note in found.notes)


def test_a_slice_sent_again_with_an_identifier_of_its_own_is_refused_with_its_place(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    write_slice(folder / "resent.dcm", numbers()[3], (0, 0, 9), InstanceNumber=99)
    text = refused(folder, "are different slices at the same place, (0, 0, 9) mm")
    assert "IM0003.dcm" in text
    assert "resent.dcm" in text


def test_two_time_points_are_refused(tmp_path):
    write_series(tmp_path / "s", numbers(), name="a{}.dcm")
    write_series(tmp_path / "s", numbers(seed=1), name="b{}.dcm")
    refused(tmp_path / "s", "and 7 more pairs do so (several time points")


def test_different_slices_with_one_identifier_are_refused(tmp_path):
    write_series(tmp_path / "s", numbers(), SOPInstanceUID="1.2.3.77")
    refused(tmp_path / "s", "different slices with the same SOPInstanceUID")


def test_one_identifier_and_place_with_other_pixels_is_refused(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    data = pydicom.dcmread(folder / "IM0003.dcm")
    data.PixelData = bytes(len(data.PixelData))
    save(data, folder / "other.dcm")
    refused(folder, "the same SOPInstanceUID and different pixels")


# Slices that differ


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": ((1, 0, 0), (0, np.cos(0.02), np.sin(0.02)))}, "with another orientation than most"),
        ({"spacing": (2.1, 2.1)}, "with another pixel size (2.1 x 2.1 mm, most have 2 x 2 mm)"),
        ({"FrameOfReferenceUID": "1.2.3.99"}, "different frames of reference"),
        ({"PixelSpacing": None}, "without pixel size (PixelSpacing)"),
        ({"ImagePositionPatient": None}, "without place in the patient (ImagePositionPatient)"),
        ({"ImageOrientationPatient": None}, "without orientation (ImageOrientationPatient)"),
        ({"spacing": (0.0, 0.0)}, "is zero, negative or no number"),
    ],
)
def test_a_slice_unlike_the_others_is_refused_by_name(tmp_path, change, words):
    write_series(tmp_path / "s", numbers(), change=lambda k: change if k == 4 else {})
    text = refused(tmp_path / "s", words)
    assert "IM0004.dcm" in text


def test_slices_of_another_matrix_are_refused_by_name(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    write_slice(folder / "large.dcm", numbers(rows=20)[0], (0, 0, 24))
    assert "large.dcm" in refused(folder, "of another size (12 x 20 pixels, most slices have 12 x 10)")


# What lies beside the slices


def test_what_is_no_slice_is_left_out_and_named(tmp_path):
    hu = numbers()
    folder = write_series(tmp_path / "s", hu)
    write_slice(
        folder / "scout.dcm",
        numbers(rows=40)[0],
        (0, 0, 0),
        axes=((0, 1, 0), (0, 0, -1)),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    write_slice(folder / "screen.dcm", hu[0], (0, 0, 0), sop_class=SECONDARY_CAPTURE, ImagePositionPatient=None)
    save(start(DOSE_REPORT, Modality="SR"), folder / "dose.dcm")
    save(start(PRESENTATION, Modality="PR"), folder / "state.dcm")
    found = read_volume(folder)
    assert np.array_equal(found.voxels, hu.transpose(2, 1, 0))
    (note,) = found.notes
    for words in (
        "1 dose report (dose.dcm)",
        "1 scout or localizer (scout.dcm)",
        "1 secondary capture",
        "1 presentation state",
    ):
        assert words in note
    assert "missing" not in note


def test_a_folder_of_reports_alone_is_no_scan(tmp_path):
    save(start(DOSE_REPORT, Modality="SR"), tmp_path / "s" / "dose.dcm")
    refused(tmp_path / "s", "there is no scan in it, only 1 dose report")


def test_the_index_of_a_disc_is_no_slice(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    shutil.copy(folder / "IM0000.dcm", folder / "DICOMDIR")
    assert read_volume(folder).notes == ()


# Several series


def three_series(folder):
    write_series(
        folder, numbers(6), name="a{}.dcm", SeriesInstanceUID="1.2.3.4.1", SeriesNumber=2, SeriesDescription="lung"
    )
    write_series(
        folder, numbers(7), name="b{}.dcm", SeriesInstanceUID="1.2.3.4.2", SeriesNumber=3, SeriesDescription="soft"
    )
    write_series(
        folder,
        numbers(9),
        name="c{}.dcm",
        SeriesInstanceUID="1.2.3.4.3",
        SeriesNumber=4,
        Modality="MR",
        sop_class="1.2.840.10008.5.1.4.1.1.4",
    )
    return folder


def test_of_several_series_a_ct_with_the_most_slices_is_taken_and_said(tmp_path):
    found = read_volume(three_series(tmp_path / "s"))
    assert found.shape[2] == 7
    assert found.dicom.series == "1.2.3.4.2"
    assert any(
        "2 (lung, CT, 6 slices), 4 (MR, 9 slices); 3 (soft, CT, 7 slices) was taken" in note for note in found.notes
    )


@pytest.mark.parametrize(("wanted", "slices"), [(2, 6), ("3", 7), ("1.2.3.4.3", 9)])
def test_a_series_is_chosen_by_number_or_uid(tmp_path, wanted, slices):
    folder = three_series(tmp_path / "s")
    found = read_volume(folder, series=wanted)
    assert found.shape[2] == slices
    assert found.sha256 == file_sha256(folder, wanted)


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    text = refused(three_series(tmp_path / "s"), "there is no series 7", series=7)
    assert "2 (lung, CT, 6 slices)" in text
    assert "4 (MR, 9 slices)" in text


def test_a_number_of_two_series_is_refused_with_their_uids(tmp_path):
    write_series(tmp_path / "s", numbers(6), name="a{}.dcm", SeriesInstanceUID="1.2.3.4.1")
    write_series(tmp_path / "s", numbers(7), name="b{}.dcm", SeriesInstanceUID="1.2.3.4.2")
    assert "1.2.3.4.2" in refused(tmp_path / "s", "2 series have the number 1", series="1")


# Gaps


def test_a_missing_slice_is_told_and_every_place_stays_right(tmp_path):
    places = [0, 3, 6, 12, 15, 18, 27]
    slices = linear_slices([(0, 0, z) for z in places], ((1, 0, 0), (0, 1, 0)))
    write_series(tmp_path / "s", slices, slope=0.01, intercept=0, change=lambda k: {"position": (0, 0, places[k])})
    found = read_volume(tmp_path / "s")
    assert found.shape[2] == 10
    assert largest_error(found).max() < 0.02
    assert any("slices may be missing" in note and "IM0005.dcm and IM0006.dcm" in note for note in found.notes)


def test_slices_far_apart_are_refused(tmp_path):
    write_series(tmp_path / "s", numbers(), change=lambda k: {"position": (0, 0, 3 * k + (300 if k > 3 else 0))})
    refused(tmp_path / "s", "more slices are missing than there are; the widest gap, 303 mm")


# Pixels


def test_each_slice_is_rescaled_by_its_own_header(tmp_path):
    hu = numbers()
    folder = write_series(tmp_path / "s", hu, change=lambda k: {"slope": 0.5 + k, "intercept": -1000.0 - k})
    stored = np.array(
        [pydicom.dcmread(folder / f"IM{k:04d}.dcm").pixel_array * (0.5 + k) - 1000.0 - k for k in range(8)]
    )
    assert np.allclose(read_volume(folder).voxels, stored.transpose(2, 1, 0), atol=1e-3)


def test_spare_bits_are_no_part_of_a_value(tmp_path):
    folder = write_series(tmp_path / "s", np.zeros((6, 8, 8)), slope=1, intercept=0)
    values = np.random.default_rng(0).integers(-2048, 2048, (6, 8, 8))
    for k in range(6):
        data = pydicom.dcmread(folder / f"IM{k:04d}.dcm")
        data.BitsStored, data.HighBit = 12, 11
        data.PixelData = ((values[k] & 0xFFF) | 0x7000).astype("<u2").tobytes()
        save(data, folder / f"IM{k:04d}.dcm")
    assert np.array_equal(read_volume(folder).voxels, values.transpose(2, 1, 0))


@pytest.mark.parametrize(
    "syntax",
    [
        pydicom.uid.RLELossless,
        pydicom.uid.ExplicitVRBigEndian,
        pydicom.uid.ImplicitVRLittleEndian,
        pydicom.uid.DeflatedExplicitVRLittleEndian,
    ],
)
def test_transfer_syntaxes_give_the_same_voxels(tmp_path, syntax):
    hu = numbers()
    folder = write_series(tmp_path / "s", hu)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        if syntax == pydicom.uid.RLELossless:
            data.compress(syntax)
            data.save_as(file)
            continue
        data.file_meta.TransferSyntaxUID = syntax
        if syntax == pydicom.uid.ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
        pydicom.dcmwrite(
            file,
            data,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=True,
        )
    assert np.array_equal(read_volume(folder).voxels, hu.transpose(2, 1, 0))


def test_a_compression_without_a_decoder_is_refused_by_name_or_decoded_exactly(tmp_path):
    hu = numbers(6, 16, 16)
    folder = tmp_path / "s"
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    for k, one in enumerate(hu.astype(np.int16)):
        image = sitk.GetImageFromArray(one[None])
        tags = {"0008|0060": "CT", "0020|000e": "1.2.3.4", "0020|000d": "1.2.3", "0008|0018": f"1.2.3.4.{k + 1}",
                "0020|0032": f"0\\0\\{2 * k}", "0020|0037": "1\\0\\0\\0\\1\\0"}  # fmt: skip
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(image)
    assert pydicom.dcmread(folder / "0.dcm").file_meta.TransferSyntaxUID.is_compressed
    assert np.array_equal(read_volume(folder).voxels, hu.transpose(2, 1, 0))
    data = pydicom.dcmread(folder / "3.dcm")
    data.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    data.save_as(folder / "3.dcm")
    assert "3.dcm" in refused_anywhere(folder, "MPEG2")


def refused_anywhere(path, words):
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert words in str(caught.value)
    return str(caught.value)


def test_no_file_is_read_whole_twice(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "s", numbers())
    from pathlib import Path

    whole = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (whole.append(self.name), real(self))[1])
    read_volume(folder)
    assert sorted(whole) == sorted(file.name for file in folder.iterdir())


# Enhanced multi-frame files


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("as_folder", [False, True])
def test_an_enhanced_ct_is_read_as_file_and_as_folder_in_both_directions(tmp_path, descending, as_folder):
    hu = numbers()
    order = np.arange(8)[::-1] if descending else np.arange(8)
    path = write_enhanced(tmp_path / "s" / "ct.dcm", hu[order], [(1, 2, 3.0 * k) for k in order])
    found = read_volume(path.parent if as_folder else path)
    assert np.array_equal(found.voxels, hu.transpose(2, 1, 0))
    assert np.allclose(found.affine, [[-2, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 0], [0, 0, 0, 1]])
    assert found.notes == ()


def test_an_enhanced_mr_without_rescaling_is_read_and_called_mr(tmp_path):
    path = write_enhanced(
        tmp_path / "mr.dcm",
        numbers(),
        [(0, 0, 3 * k) for k in range(8)],
        sop_class=ENHANCED_MR,
        Modality="MR",
        scale=(1.0, 0.0),
    )
    assert any("MR, not CT" in note for note in read_volume(path).notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k: {"StackID": str(k // 4)}, "belong to 2 stacks"),
        (lambda k: {"TemporalPositionIndex": 1 + k // 4}, "belong to 2 time points"),
    ],
)
def test_several_stacks_or_time_points_are_refused(tmp_path, change, words):
    path = write_enhanced(tmp_path / "ct.dcm", numbers(), [(0, 0, 3 * k) for k in range(8)], change=change)
    refused(path, words)
    refused(path, f"there is no part '7': the slices {words}", series=":7")
    for part in (1, 2) if "time" in words else (0, 1):
        for wanted in (f":{part}", f"1:{part}"):
            found = read_volume(path, series=wanted)
            first = 4 * (part - ("time" in words))
            assert np.array_equal(found.voxels, numbers()[first : first + 4].transpose(2, 1, 0))
            assert found.grid.index_to_world((0, 0, 0))[2] == 3 * first
            assert found.dicom.part == str(part)


def test_stacks_and_time_points_together_are_told_and_chosen(tmp_path):
    def change(k):
        return {"StackID": "ab"[k // 8], "TemporalPositionIndex": 1 + k // 4 % 2}

    path = write_enhanced(tmp_path / "ct.dcm", numbers(16), [(0, 0, 3 * (k % 4)) for k in range(16)], change=change)
    text = refused(path, "belong to 4 stacks and time points (a.1 with 4 slices, a.2 with 4 slices, b.1")
    assert "--series :a.1" in text
    assert np.array_equal(read_volume(path, series=":b.1").voxels, numbers(16)[8:12].transpose(2, 1, 0))


def test_a_series_of_one_stack_has_no_part_to_choose(tmp_path):
    refused(write_series(tmp_path / "s", numbers()), "no parts to choose '2' from", series="1:2")


def test_a_chosen_part_is_found_again(tmp_path):
    path = write_enhanced(
        tmp_path / "ct.dcm",
        numbers(),
        [(0, 0, 3 * (k % 4)) for k in range(8)],
        change=lambda k: {"TemporalPositionIndex": 1 + k // 4},
    )
    chosen = read_volume(path, series=":2")
    entry = image_entry(chosen, voxels_sha256(chosen))
    assert np.array_equal(scan_of(entry, path).voxels, chosen.voxels)


def test_frames_are_checked_as_slices_are(tmp_path):
    path = write_enhanced(tmp_path / "ct.dcm", numbers(), [(0, 0, 3 * min(k, 6)) for k in range(8)])
    refused(path, "frame 7 of ct.dcm and frame 8 of ct.dcm are different slices at the same place")
    path = write_enhanced(tmp_path / "ct.dcm", numbers(), [(9 * (k == 7), 0, 3 * k) for k in range(8)])
    refused(path, "frame 8 of ct.dcm at (9, 0, 21) mm lies 9 mm aside")


def test_frames_without_places_are_refused_for_that_reason(tmp_path):
    path = write_enhanced(tmp_path / "ct.dcm", numbers(), [(0, 0, 3 * k) for k in range(8)])
    data = pydicom.dcmread(path)
    del data.PerFrameFunctionalGroupsSequence
    data.save_as(path)
    refused(path, "without place in the patient")


def test_a_volume_in_several_multi_frame_files_is_put_together(tmp_path):
    for n in (0, 1):
        part = slice(4 * n, 4 * n + 4)
        places = [(0, 0, 3.0 * k) for k in range(8)][part]
        write_enhanced(tmp_path / "s" / f"{1 - n}.dcm", numbers()[part], places, ConcatenationUID="1.2.9")
    assert np.array_equal(read_volume(tmp_path / "s").voxels, numbers().transpose(2, 1, 0))


def test_one_slice_alone_asks_for_its_folder(tmp_path):
    folder = write_series(tmp_path / "s", numbers())
    refused(folder / "IM0002.dcm", "one slice of a DICOM series; give the folder")
