"""Explanations as DICOM: every voxel, place, name, number and identifier read back by other programs and by hand."""

import numpy as np
import pytest
from dicom_explanations import write_dicom_explanation
from small_explanations import SHAPE, write_explanation

from Agg2ExpLib.anatomy import _TABLE
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.regions import read_regions
from Agg2ExpLib.snomed import _CODES
from Agg2ExpLib.volume import Volume, file_sha256, read_volume, write_volume

hd = pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'agg2exp[dicom]'")
pydicom = pytest.importorskip("pydicom")
from Agg2ExpLib.export import codes, write_dicom  # noqa: E402

LUNG = "lung_lower_lobe_left"
AWKWARD = "Herd\\ <b>Ж</b>"
TO_LPS = np.array([-1.0, -1.0, 1.0])


def add_region(document, folder):
    """Add a region that overlaps the nodule, with a name that DICOM cannot hold as it is."""
    other = read_volume(folder / "regions" / "nodule.nii.gz", kind="labels")
    mask = np.zeros(SHAPE, np.uint8)
    mask[18:25, 5:9, 9:13] = 1
    write_volume(Volume(mask, other.grid), folder / "regions" / "other.nii.gz")
    document["regions"].append({"id": AWKWARD, "sha256": "", "voxels": int(mask.sum()), "file": "regions/other.nii.gz"})
    document["files"].append("regions/other.nii.gz")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oblique")
    return write_dicom_explanation(folder, change=lambda document: add_region(document, folder / "explanation"))


@pytest.fixture(scope="module")
def written(case):
    out = case[0].folder.parent / "dicom"
    write_dicom(case[0], out)
    return out


@pytest.fixture(scope="module")
def report(written):
    return hd.sr.srread(written / "report.dcm")


def places_of(data, frame):
    """Return the patient coordinates (LPS) of a frame's pixels, [row, column], by DICOM's own equation (C.7.6.2.1-1)."""
    shared, own = data.SharedFunctionalGroupsSequence[0], data.PerFrameFunctionalGroupsSequence[frame]
    across, down = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    first = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
    rows, columns = np.mgrid[: data.Rows, : data.Columns][..., None]
    return first + columns * between_columns * across + rows * between_rows * down


def index_in(grid, places):
    """Return voxel indices of places, and how far in mm the places lie from those voxels' middles."""
    index = np.rint(grid.world_to_index(places * TO_LPS)).astype(int)
    return index, np.abs(grid.index_to_world(index) - places * TO_LPS).max()


def check_map(explanation, path, name):
    """Compare a parametric map with the attribution, each voxel by its own place."""
    data, expected = pydicom.dcmread(path), explanation.attribution(name)
    frames = np.frombuffer(data.FloatPixelData, "<f4").reshape(data.NumberOfFrames, data.Rows, data.Columns)
    seen = np.zeros(SHAPE, dtype=int)
    for number, frame in enumerate(frames):
        index, apart = index_in(expected.grid, places_of(data, number))
        assert apart < 1e-3
        i, j, k = np.moveaxis(index, -1, 0)
        seen[i, j, k] += 1
        assert frame.tobytes() == np.ascontiguousarray(expected.voxels[i, j, k]).astype("<f4").tobytes()
    assert (seen == 1).all()
    mapping = data.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    return data


@pytest.mark.parametrize("name", ["heart", LUNG])
def test_a_parametric_map_holds_every_bit_of_the_attribution_at_its_place(case, written, name):
    check_map(case[0], written / "attributions" / f"{name}.dcm", name)


def test_maps_and_structures_of_a_left_handed_grid_lie_at_their_places(tmp_path):
    explanation, _ = write_dicom_explanation(tmp_path, "left-handed")
    write_dicom(explanation, tmp_path / "dicom", classes=["heart"])
    check_map(explanation, tmp_path / "dicom" / "attributions" / "heart.dcm", "heart")
    check_structures(explanation, tmp_path / "dicom" / "segmentation.dcm")


def check_structures(explanation, path):
    prediction, found = explanation.prediction(), {region.name: region for region in read_regions(path)}
    names = {"heart": 1, "lung lower lobe left": 2, "deep back muscle left": 3, "ribs": 4}
    assert set(found) == set(names)
    for name, value in names.items():
        region = found[name]
        inside = np.argwhere(region.mask.voxels)
        there = prediction.grid.world_to_index(region.grid.index_to_world(inside))
        assert np.abs(there - np.rint(there)).max() * max(prediction.spacing) < 1e-3
        assert set(map(tuple, np.rint(there).astype(int))) == set(map(tuple, np.argwhere(prediction.voxels == value)))


def test_structures_are_read_back_by_our_own_reader_voxel_by_voxel_and_absent_ones_are_left_out(case, written):
    check_structures(case[0], written / "segmentation.dcm")


def test_structures_lie_on_the_scans_slices_and_name_them(case, written):
    data = hd.seg.segread(written / "segmentation.dcm")
    slices = {
        str(header.SOPInstanceUID): np.array(header.ImagePositionPatient, float)
        for header in map(pydicom.dcmread, case[1].iterdir())
    }
    for frame in data.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(place, slices[source.ReferencedSOPInstanceUID], atol=1e-4)


def test_segments_have_codes_sides_and_colours(written):
    data = hd.seg.segread(written / "segmentation.dcm")
    told = {one.SegmentLabel: one for one in data.SegmentSequence}
    heart, lung, muscle = told["heart"], told["lung lower lobe left"], told["deep back muscle left"]
    assert heart.segmented_property_type.value == "80891009"
    assert heart.segmented_property_category.meaning == "Anatomical Structure"
    (side,) = lung.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    # Not in DICOM's dictionary: our own code, the side in its words.
    assert muscle.segmented_property_type.scheme_designator == codes.SCHEME
    assert muscle.segmented_property_type.meaning == "deep back muscle left"
    red, green, blue = hd.color.CIELabColor.from_dicom_value(heart.RecommendedDisplayCIELabValue).to_rgb()
    np.testing.assert_allclose((red, green, blue), (158, 16, 44), atol=1)


def test_overlapping_regions_and_awkward_names_come_back(case, written):
    regions = {region.name: region for region in read_regions(written / "regions.dcm")}
    assert set(regions) == {"lung nodule", "Herd/ <b>Ж</b>"}
    for name, region in regions.items():
        expected = case[0].region(AWKWARD if "Ж" in name else "nodule")
        inside = np.argwhere(region.mask.voxels)
        there = expected.grid.world_to_index(region.grid.index_to_world(inside))
        assert set(map(tuple, np.rint(there).astype(int))) == set(map(tuple, np.argwhere(expected.voxels)))
        assert np.abs(there - np.rint(there)).max() < 1e-4


def test_the_report_has_the_tables_numbers_bit_for_bit(case, report):
    table = case[0].importance
    groups = {group.tracking_identifier: group for group in report.content.get_volumetric_roi_measurement_groups()}
    assert set(groups) == {"heart", LUNG}
    for name, group in groups.items():
        row, found = table.classes.index(name), {}
        for one in group.get_measurements():
            label = next(item.TextValue for item in one[0].ContentSequence if item.name.value == "112039")
            found[label, one.name.value] = one.value
        for column, roi in enumerate(table.rois):
            for measure in ("mass", "enrichment"):
                value = table.matrix(measure)[row, column]
                assert found.pop((roi, measure), None) == (value if np.isfinite(value) else None), (name, roi)
        assert found == {}


def test_the_report_points_to_the_segment_and_to_the_map(written, report):
    segmentation = hd.seg.segread(written / "segmentation.dcm")
    (heart,) = (
        group
        for group in report.content.get_volumetric_roi_measurement_groups()
        if group.tracking_identifier == "heart"
    )
    segment = heart.referenced_segment[0].ReferencedSOPSequence[0]
    assert segment.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
    assert segmentation.get_segment_description(segment.ReferencedSegmentNumber).SegmentLabel == "heart"
    mapped = pydicom.dcmread(written / "attributions" / "heart.dcm").SOPInstanceUID
    used = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for one in heart.get_measurements()
        for item in one[0].ContentSequence
        if item.ValueType == "IMAGE"
    }
    assert used == {mapped}


def test_everything_joins_the_scans_study_patient_and_coordinates(case, written):
    scan = pydicom.dcmread(next(case[1].iterdir()))
    files = sorted(written.rglob("*.dcm"))
    series = set()
    for path in files:
        data = pydicom.dcmread(path)
        for name in ("StudyInstanceUID", "PatientID", "AccessionNumber", "StudyDate"):
            assert data[name].value == scan[name].value
        assert str(data.PatientName) == "Müller^Eva"
        assert data.get("FrameOfReferenceUID", scan.FrameOfReferenceUID) == scan.FrameOfReferenceUID
        series.add(data.SeriesInstanceUID)
    assert len(files) == 5
    assert len(series) == 4
    assert scan.SeriesInstanceUID not in series


def test_a_file_made_from_a_series_is_placed_into_its_study(tmp_path):
    _, series = write_dicom_explanation(tmp_path / "dicom", "swapped")
    explanation = write_explanation(tmp_path / "explanation", "swapped")
    with pytest.raises(InputError, match=r"explanation-ct\.nii\.gz was not read from DICOM.*--source"):
        write_dicom(explanation, tmp_path / "out")
    write_dicom(explanation, tmp_path / "out", source=series, classes=["heart"])
    check_map(explanation, tmp_path / "out" / "attributions" / "heart.dcm", "heart")
    check_structures(explanation, tmp_path / "out" / "segmentation.dcm")
    assert pydicom.dcmread(tmp_path / "out" / "report.dcm").PatientID == "P-7"


def test_a_series_that_is_another_one_or_gone_is_refused_by_name(case, tmp_path):
    other, series = write_dicom_explanation(tmp_path / "other", "plain", PatientID="P-8")
    with pytest.raises(InputError, match="is not the one that was explained"):
        write_dicom(case[0], tmp_path / "dicom", source=series)
    moved = series.rename(series.with_name("moved"))
    with pytest.raises(InputError, match=r"series is not at .*series; name the folder.*--source"):
        write_dicom(other, tmp_path / "dicom")
    file = write_explanation(tmp_path / "explanation", "flipped")
    with pytest.raises(InputError, match="another grid"):
        write_dicom(file, tmp_path / "dicom", source=moved)
    scan = tmp_path / "elsewhere" / "explanation-ct.nii.gz"
    here = write_explanation(scan.parent / "explanation", "plain")
    read = read_volume(scan)
    write_volume(Volume(read.voxels + (np.arange(SHAPE[2]) == 3) * np.int16(2), read.grid), scan)
    with pytest.raises(InputError, match="is not there as it was explained"):
        write_dicom(here, tmp_path / "dicom", source=moved)
    here.document["image"]["sha256"] = file_sha256(scan)
    with pytest.raises(InputError, match=r"other values than explanation-ct.nii.gz \(up to 2 HU apart\)"):
        write_dicom(here, tmp_path / "dicom", source=moved)
    with pytest.raises(InputError, match=r"no attribution of 'ribs'"):
        write_dicom(other, tmp_path / "dicom", source=moved, classes=["ribs"])
    assert not (tmp_path / "dicom").exists()


def test_the_same_explanation_gives_the_same_bytes_and_never_over_others(case, written, tmp_path, capsys):
    again, folder = tmp_path / "again", str(case[0].folder)
    words = ["export", folder, "--dicom", str(again), "--progress", "none"]
    assert main(words) == 0
    assert "report.dcm" in capsys.readouterr().out
    for path in written.rglob("*.dcm"):
        assert (again / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name
    assert main(words) == 2
    assert "exists already; give another --dicom" in capsys.readouterr().err
    assert main(["export", folder, "--progress", "none"]) == 2
    assert "--dicom" in capsys.readouterr().err


def test_without_highdicom_one_sentence_says_so(case, tmp_path, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.export.dicom.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"need highdicom.*pip install 'agg2exp\[dicom\]'"):
        write_dicom(case[0], tmp_path / "dicom")


def test_every_snomed_code_that_is_written_is_in_dicoms_dictionary():
    names = [*(one.id for one in _TABLE), *_CODES, "spleen", "kidney_left", "nobody_knows"]
    for name in names:
        found = codes.concept_of(name)
        assert found.scheme_designator in ("SCT", codes.SCHEME)
        assert len(found.value) <= 16
    for name in names:
        told = codes.concept_of(name).meaning.lower().split()
        # A structure of one side never has the code of the other.
        assert not ({"left", "right"} - set(name.split("_"))) & set(told) or {"left", "right"} <= set(told), name
    assert codes.concept_of("kidney_left").meaning == "Kidney"
    assert codes.side_of("kidney_left").meaning == "Left"
    assert all(codes.concept_of(name).scheme_designator == "SCT" for name in ("liver", "spleen", "aorta"))
    assert codes.concept_of("nobody_knows").scheme_designator == codes.SCHEME
