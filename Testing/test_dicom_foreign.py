"""What does not belong to a DICOM series is named or refused: lost, foreign and unlike slices never blend in unseen."""

import gzip

import numpy as np
import pytest

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import read_volume
from Testing.dicom_writing import SECONDARY_CAPTURE, item, write_enhanced, write_series, write_slice

HU = np.random.default_rng(0).integers(-1000, 1500, (8, 6, 7)).astype(float)


def refused(path, words, **options):
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert words in text
    return text


def assert_read(folder, slices=HU):
    found = read_volume(folder)
    assert np.array_equal(found.voxels, slices.transpose(2, 1, 0))
    return found.notes


# Lost slices


def emptied(path):
    path.write_bytes(b"")


def nulled(path):
    path.write_bytes(bytes(path.stat().st_size))


def packed(path):
    path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("damage", [emptied, nulled, packed])
def test_a_slice_that_is_no_dicom_is_named(tmp_path, damage):
    folder = write_series(tmp_path / "s", HU)
    damage(folder / "IM0007.dcm")
    (note,) = assert_read(folder, HU[:7])
    assert "1 file of the folder could not be read as DICOM, such as IM0007.dcm" in note
    for file in list(folder.glob("IM000?.dcm")):
        damage(file)
    text = refused(folder, "the folder holds no slice that can be read: IM0000.dcm")
    assert "holds no DICOM series" not in text


def test_ordinary_companions_are_not_told(tmp_path):
    folder = write_series(tmp_path / "s", HU)
    for name in (
        "DICOMDIR",
        "read.txt",
        "a.json",
        "a.XML",
        "a.csv",
        ".hidden",
        "thumb.jpg",
        "Thumbs.db",
        "mask.nii.gz",
    ):
        (folder / name).write_bytes(b"x")
    assert assert_read(folder) == ()


@pytest.mark.parametrize("whole", [True, False])
def test_a_slice_without_its_preamble_is_read(tmp_path, whole):
    """Of one file the preamble is missing, of another the whole of group 2 too."""
    folder = write_series(tmp_path / "s", HU)
    for file in folder.iterdir():
        content = file.read_bytes()[132:]
        meta = 12 + int.from_bytes(content[8:12], "little")
        file.write_bytes(content if whole else content[meta:])
    assert assert_read(folder) == ()


# Slices of another kind


@pytest.mark.parametrize("lacking", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",)])
def test_a_slice_without_the_rescale_of_the_others_is_refused(tmp_path, lacking):
    folder = write_series(tmp_path / "s", HU, change=lambda k: dict.fromkeys(lacking) if k == 4 else {})
    refused(folder, f"IM0004.dcm has no {' and '.join(lacking)}, others have; export the series again")


def test_a_series_that_has_no_rescale_at_all_is_read(tmp_path):
    folder = write_series(tmp_path / "s", HU, intercept=0, RescaleSlope=None, RescaleIntercept=None)
    assert_read(folder)


def test_a_slice_that_lacks_the_frame_of_reference_is_told_so(tmp_path):
    folder = write_series(tmp_path / "s", HU, change=lambda k: {"FrameOfReferenceUID": None} if k == 4 else {})
    refused(folder, "IM0004.dcm lacks the FrameOfReferenceUID that other slices have")


def test_localizer_frames_of_an_enhanced_ct_are_named(tmp_path):
    def change(k):
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER" if k > 5 else "VOLUME"]
        return {"CTImageFrameTypeSequence": [item(FrameType=kind)]}

    path = write_enhanced(tmp_path / "ct.dcm", HU, [(0, 0, 3.0 * k) for k in range(8)], change=change)
    assert assert_read(path, HU[:6]) == ("2 localizer frames were left out of ct.dcm.",)


# Slices of another scan under the same SeriesInstanceUID


@pytest.mark.parametrize(
    "values",
    [
        {"sop_class": SECONDARY_CAPTURE},
        {"ImageType": ["DERIVED", "SECONDARY"]},
        {"ImageType": ["DERIVED", "PRIMARY", "CSA MPR"]},
        {"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]},
    ],
)
def test_a_derived_picture_between_the_slices_is_left_out_and_named(tmp_path, values):
    folder = write_series(tmp_path / "s", HU)
    write_slice(folder / "a.dcm", HU[0], (0, 0, 4.5), **values)
    assert assert_read(folder) == ("1 derived picture (a.dcm) in the folder was left out.",)


def test_a_series_of_derived_slices_is_read(tmp_path):
    assert_read(write_series(tmp_path / "s", HU, ImageType=["DERIVED", "SECONDARY", "MPR"]))


def test_more_derived_than_original_slices_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", HU, change=lambda k: {"ImageType": ["DERIVED", "SECONDARY"]} if k else {})
    refused(folder, "IM0000.dcm is an original slice and IM0007.dcm a derived one")


def test_two_patients_in_one_series_are_refused(tmp_path):
    folder = write_series(tmp_path / "s", HU, change=lambda k: {"PatientID": "AB"[k // 4]})
    assert "IM0003.dcm and IM0007.dcm have different patients" in refused(folder, "keep the slices of one patient")


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime", "ContentTime"])
@pytest.mark.parametrize("shift", [0.05, 1.5])
def test_interleaved_acquisitions_are_refused(tmp_path, tag, shift):
    folder = write_series(tmp_path / "s", HU, name="a{}.dcm", **{tag: "100000"})
    write_series(folder, HU + 1, name="b{}.dcm", origin=(0, 0, shift), **{tag: "100100"})
    text = refused(folder, f"several time points or acquisitions whose slices lie between each other's, 2 by {tag}")
    assert "--series" in text


@pytest.mark.parametrize(
    "number", [lambda k: k // 4, lambda k: k, lambda k: k % 2 if k < 3 else None, lambda k: (0, 0, 0, 1, 0, 1, 1, 1)[k]]
)
def test_blocks_of_acquisitions_and_numbered_slices_are_one_volume(tmp_path, number):
    folder = write_series(tmp_path / "s", HU, change=lambda k: {"AcquisitionNumber": number(k)})
    assert assert_read(folder) == ()


def test_odd_and_even_slices_of_an_mr_in_turn_are_one_volume(tmp_path):
    folder = write_series(tmp_path / "s", HU, Modality="MR", change=lambda k: {"AcquisitionTime": f"10000{k % 2}"})
    assert_read(folder)


def test_two_volumes_that_no_header_tells_apart_are_refused_by_their_places(tmp_path):
    folder = write_series(tmp_path / "s", HU, name="a{}.dcm")
    write_series(folder, HU + 1, name="b{}.dcm", origin=(0, 0, 0.05))
    refused(folder, "a0.dcm and b0.dcm lie only 0.05 mm apart, at (0, 0, 0) mm, and 7 more pairs so near")


# Several series


def test_a_default_series_that_is_refused_names_the_others(tmp_path):
    folder = write_series(tmp_path / "s", HU, name="a{}.dcm", change=lambda k: {"RescaleSlope": None} if k == 2 else {})
    write_series(folder, HU[:6], name="b{}.dcm", SeriesInstanceUID="1.2.9", SeriesNumber=2)
    text = refused(folder, "a2.dcm has no RescaleSlope")
    assert "the folder holds 1 other series: 2 (CT, 6 slices); 1 (CT, 8 slices) was taken, and --series takes" in text
    assert "--series" not in refused(folder, "a2.dcm has no RescaleSlope", series=1)
    for wanted in ("2", "02"):
        assert read_volume(folder, series=wanted).shape[2] == 6
