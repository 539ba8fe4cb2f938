"""Regions: every kind of file gives each structure by its own name, at its own place."""

import json

import nibabel
import numpy as np
import pydicom
import pytest

from Agg2ExpLib.cli.common import regions_of
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.regions import (
    Region,
    as_regions,
    check_names,
    named_region,
    named_regions,
    present_regions,
    read_regions,
    regions_on_grid,
)
from Agg2ExpLib.volume import Grid, Volume, read_volume, write_volume
from Testing.dicom_writing import write_segmentation, write_series, write_structure_set

# The scan's grid in the DICOM tests: LPS positions (0, 0, 0) on, 2 x 2 x 3 mm.
SCAN = Grid((20, 16, 12), np.diag([-2.0, -2.0, 3.0, 1.0]))


def block(shape, low, high):
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return mask


def label_map(path, grid=SCAN):
    labels = np.zeros(grid.shape, np.int16)
    labels[2:6, 2:6, 2:6] = 3
    labels[8:12, 8:12, 2:6] = 7
    write_volume(Volume(labels, grid), path)
    return labels


def names_of(path):
    return [region.name for region in read_regions(path)]


# Label maps


def test_a_label_map_without_names_numbers_its_regions(tmp_path):
    labels = label_map(tmp_path / "seg.nii.gz")
    regions = read_regions(tmp_path / "seg.nii.gz")
    assert [region.name for region in regions] == ["label 3", "label 7"]
    for region, value in zip(regions, (3, 7), strict=True):
        assert np.array_equal(region.mask.voxels, labels == value)
        assert region.mask.grid.same_as(SCAN)
        assert region.sha256 == read_volume(tmp_path / "seg.nii.gz", kind="labels").sha256


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("seg.json", json.dumps({"spleen": 3, "left kidney": 7})),
        ("seg.json", json.dumps({"3": "spleen", "7": "left kidney"})),
        ("dataset.json", json.dumps({"labels": {"background": 0, "spleen": 3, "left kidney": 7}})),
        ("seg.csv", "label,name\n3,spleen\n7,left kidney\n"),
        ("seg.csv", "name;value\nspleen;3\nleft kidney;7\n"),
        ("labels.tsv", "3\tspleen\n7\tleft kidney\n"),
        ("seg.ctbl", "# Slicer\n0 background 0 0 0 0\n3 spleen 255 0 0 255\n7 left kidney 0 255 0 255\n"),
        ("seg.label", '# ITK-SNAP\n 3 255 0 0 1 1 1 "spleen"\n 7 0 255 0 1 1 1 "left kidney"\n'),
        ("seg.txt", "3 spleen\n7 left kidney\n"),
    ],
)
def test_names_come_from_a_table_beside_the_file(tmp_path, table, text):
    label_map(tmp_path / "seg.nii.gz")
    (tmp_path / table).write_text(text, encoding="utf-8")
    assert names_of(tmp_path / "seg.nii.gz") == ["spleen", "left kidney"]


def test_names_come_from_totalsegmentators_header(tmp_path):
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[1:3], labels[4:6] = 1, 2
    image = nibabel.Nifti1Image(labels, np.eye(4))
    text = '<?xml version="1.0"?><CaretExtension><VolumeInformation><LabelTable><Label Key="1" Red="1"><![CDATA[spleen]]></Label>' \
           '<Label Key="2" Red="0">kidney_right</Label></LabelTable></VolumeInformation></CaretExtension>'  # fmt: skip
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, text.encode()))
    nibabel.save(image, tmp_path / "seg.nii.gz")
    assert names_of(tmp_path / "seg.nii.gz") == ["spleen", "kidney_right"]


def test_a_label_that_the_table_does_not_name_has_its_number(tmp_path):
    label_map(tmp_path / "seg.nii.gz")
    (tmp_path / "seg.csv").write_text("3,spleen\n")
    assert names_of(tmp_path / "seg.nii.gz") == ["spleen", "label 7"]


def test_a_mask_of_one_label_has_the_files_name(tmp_path):
    write_volume(Volume(block(SCAN.shape, (1, 1, 1), (4, 4, 4)), SCAN), tmp_path / "nodule.nrrd")
    assert names_of(tmp_path / "nodule.nrrd") == ["nodule"]


# Folders of masks


def test_a_folder_of_masks_gives_one_region_a_file_and_says_which_are_empty(tmp_path):
    for name, high in (("spleen", 5), ("aorta", 7), ("gallbladder", 1)):
        mask = block(SCAN.shape, (1, 1, 1), (high, high, high))
        write_volume(Volume(mask, SCAN), tmp_path / f"{name}.nii.gz")
    (tmp_path / "report.txt").write_text("not a mask")
    regions = read_regions(tmp_path)
    assert {region.name: region.voxels for region in regions} == {"spleen": 64, "aorta": 216}
    assert any("gallbladder has no voxel and was left out" in note for note in regions[0].notes)


def test_a_folder_with_a_ct_among_the_masks_is_refused(tmp_path):
    write_volume(Volume(np.full(SCAN.shape, -500.0, np.float32), SCAN), tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match=r"ct\.nii\.gz: the values run from -500"):
        read_regions(tmp_path)


def test_the_same_name_in_two_files_is_refused(tmp_path):
    for suffix in (".nii.gz", ".nrrd"):
        write_volume(Volume(block(SCAN.shape, (1, 1, 1), (4, 4, 4)), SCAN), tmp_path / f"spleen{suffix}")
    with pytest.raises(InputError, match="'spleen' is in"):
        read_regions(tmp_path)


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "segmentations").mkdir()])
def test_a_folder_without_masks_is_refused(tmp_path, make):
    make(tmp_path)
    with pytest.raises(InputError, match="the folder holds no masks"):
        read_regions(tmp_path)


# 3D Slicer's segmentations


def seg_nrrd(path, arrays, table, across="(0,0,3)"):
    """Write layers (i, j, k) and the key/value pairs of segments."""
    many = len(arrays) > 1
    sizes = " ".join(map(str, arrays[0].shape))
    head = [
        "NRRD0004", "type: unsigned char", f"dimension: {4 if many else 3}", f"sizes: {f'{len(arrays)} ' if many else ''}{sizes}",
        "encoding: raw", "space: left-posterior-superior", "space origin: (0,0,0)",
        f"space directions: {'none ' if many else ''}(2,0,0) (0,2,0) {across}",
        f"kinds: {'list ' if many else ''}domain domain domain",
    ]  # fmt: skip
    pairs = [f"Segment{n}_{key}:={value}" for n, one in enumerate(table) for key, value in one.items()]
    stored = np.stack(arrays) if many else arrays[0]
    path.write_bytes("\n".join([*head, *pairs]).encode() + b"\n\n" + stored.astype(np.uint8).tobytes(order="F"))
    return path


ONE, OTHER = block(SCAN.shape, (1, 1, 1), (8, 8, 8)), block(SCAN.shape, (5, 5, 5), (10, 10, 10))


def test_segments_of_one_layer_are_regions_by_name(tmp_path):
    flat = ONE.copy()
    flat[OTHER > 0] = 2
    path = seg_nrrd(tmp_path / "a.seg.nrrd", [flat], [{"ID": "s1", "Name": "effusion", "LabelValue": 1, "Layer": 0},
                                                      {"ID": "s2", "Name": "nodule", "LabelValue": 2, "Layer": 0}])  # fmt: skip
    first, second = read_regions(path)
    assert (first.name, second.name) == ("effusion", "nodule")
    assert np.array_equal(first.mask.voxels, flat == 1)
    assert np.array_equal(second.mask.voxels, OTHER)
    assert second.mask.grid.same_as(SCAN)


@pytest.mark.parametrize("old", [True, False])
def test_layers_keep_their_overlap_and_it_is_said(tmp_path, old):
    table = [{"ID": f"s{n}", "Name": name} | ({} if old else {"LabelValue": 1, "Layer": n})
             for n, name in enumerate(("effusion", "nodule"))]  # fmt: skip
    regions = read_regions(seg_nrrd(tmp_path / "a.seg.nrrd", [ONE, OTHER], table))
    assert [region.voxels for region in regions] == [343, 125]
    placed = regions_on_grid(regions, SCAN)
    assert [int(mask.sum()) for mask in placed.masks] == [343, 125]
    assert any("effusion and nodule by 27 voxels" in note for note in placed.notes)


def test_segments_of_the_same_name_are_numbered(tmp_path):
    table = [{"Name": "lesion", "LabelValue": 1, "Layer": n} for n in range(2)]
    assert names_of(seg_nrrd(tmp_path / "a.seg.nrrd", [ONE, OTHER], table)) == ["lesion 1", "lesion 2"]


def test_a_layer_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="lies in layer 3 of 2"):
        read_regions(seg_nrrd(tmp_path / "a.seg.nrrd", [ONE, OTHER], [{"Name": "x", "LabelValue": 1, "Layer": 3}]))


def test_a_value_that_no_segment_names_is_a_region_too(tmp_path):
    flat = ONE.copy()
    flat[OTHER > 0] = 5
    path = seg_nrrd(tmp_path / "a.seg.nrrd", [flat], [{"Name": "effusion", "LabelValue": 1, "Layer": 0}])
    first, second = read_regions(path)
    assert (first.name, second.name, second.voxels) == ("effusion", "label 5", 125)
    assert second.notes == ("a.seg.nrrd: no segment names the value 5 in its voxels; they became the region label 5.",)


@pytest.mark.parametrize("count", [1, 3])
def test_a_region_cropped_to_a_few_slices_is_read(tmp_path, count):
    thin = np.ascontiguousarray(ONE[:, :, 2 : 2 + count])
    (region,) = read_regions(seg_nrrd(tmp_path / "a.seg.nrrd", [thin], [{"Name": "x", "LabelValue": 1, "Layer": 0}]))
    assert region.voxels == 49 * count
    assert regions_on_grid([region], SCAN).masks[0].sum() == 49 * count
    nibabel.save(nibabel.Nifti1Image(thin, SCAN.affine), tmp_path / "thin.nii.gz")
    assert named_region("x", tmp_path / "thin.nii.gz").voxels == 49 * count
    with pytest.raises(InputError, match=r"thin\.nii\.gz: the (image|volume) is"):
        read_volume(tmp_path / "thin.nii.gz")


@pytest.mark.parametrize("layers", [[ONE], [ONE, OTHER]])
def test_slightly_sheared_segments_are_straightened_as_scans_are(tmp_path, layers):
    table = [{"Name": f"s{n}", "LabelValue": 1, "Layer": n} for n in range(len(layers))]
    regions = read_regions(seg_nrrd(tmp_path / "a.seg.nrrd", layers, table, across="(0.015,0,3)"))
    assert [region.voxels for region in regions] == [343, 125][: len(layers)]
    assert sum("were straightened" in note for note in regions[-1].notes) == 1


# DICOM


def frames(mask):
    """Return [slice, row, column] of (i, j, k)."""
    return mask.transpose(2, 1, 0)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_segments_of_a_dicom_segmentation_are_regions_by_label(tmp_path, kind, as_folder):
    path = write_segmentation(tmp_path / "s" / "seg.dcm", [frames(ONE), frames(OTHER)], ["tumour", "node"], kind=kind)
    regions = read_regions(path.parent if as_folder else path)
    assert [region.name for region in regions] == ["tumour", "node"]
    placed = regions_on_grid(regions, SCAN, [], "1.2.3.5")
    for mask, expected in zip(placed.masks, (ONE, OTHER), strict=True):
        assert np.array_equal(mask, expected > 0)
    assert any("half" in note for note in placed.notes) == (kind == "FRACTIONAL")


def test_a_segmentation_with_a_gap_between_its_frames_is_placed_right(tmp_path):
    parts = block(SCAN.shape, (1, 1, 1), (5, 5, 3)) | block(SCAN.shape, (1, 1, 8), (5, 5, 9))
    path = write_segmentation(tmp_path / "seg.dcm", [frames(parts)], ["islands"])
    assert np.array_equal(regions_on_grid(read_regions(path), SCAN).masks[0], parts > 0)


@pytest.mark.parametrize(
    ("measures", "step", "volume"),
    [
        ({"SliceThickness": 1.0}, 1, 108),
        ({"SpacingBetweenSlices": 3.0, "SliceThickness": 1.0}, 1, 108),
        ({"SpacingBetweenSlices": 3.0, "SliceThickness": 1.0}, 3, 108),
        ({"SpacingBetweenSlices": 1.0, "SliceThickness": 1.0}, 1, 36),
    ],
)
def test_frames_reach_to_the_next_one_unless_a_spacing_is_stated(tmp_path, measures, step, volume):
    mask = np.zeros((12, 16, 20), np.uint8)
    mask[[0, step, 2 * step], 1, 1:4] = 1
    path = write_segmentation(tmp_path / "seg.dcm", [mask], ["x"], measures=measures, spacing=(2.0, 2.0, 3.0))
    (region,) = read_regions(path)
    assert region.voxels * region.grid.voxel_volume == pytest.approx(volume)
    assert any("1 mm thick but lie 3 mm apart" in note for note in region.notes) == (
        "SpacingBetweenSlices" not in measures
    )


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("angle", [0.0, 0.35])
def test_a_segmentation_that_highdicom_wrote_is_read_where_highdicom_puts_it(tmp_path, kind, angle):
    hd = pytest.importorskip("highdicom")
    axes = ((np.cos(angle), np.sin(angle), 0), (-np.sin(angle), np.cos(angle), 0))
    patient = dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                             "StudyDate", "StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"), "")  # fmt: skip
    folder = write_series(tmp_path / "ct", np.zeros((12, 16, 20)), axes=axes, origin=(-31.5, 12.25, 40), **patient)
    source = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    for one in source:
        one.SliceThickness = "3"
    code = hd.sr.CodedConcept("91723000", "SCT", "Anatomical structure")
    described = [
        hd.seg.SegmentDescription(n, name, code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(("tumour", "node"), 1)
    ]
    masks = np.stack([frames(ONE), frames(OTHER)], axis=-1)
    written = hd.seg.Segmentation(source, masks.astype(float if kind == "FRACTIONAL" else np.uint8), kind, described, "1.2.3.70",
                                  1, "1.2.3.71", 1, "maker", "model", "1", "serial")  # fmt: skip
    written.save_as(tmp_path / "seg.dcm")
    scan = read_volume(folder)
    placed = regions_on_grid(read_regions(tmp_path / "seg.dcm"), scan.grid, [], scan.dicom.frame_of_reference)
    assert [region.name for region in placed.regions] == ["tumour", "node"]
    for mask, expected in zip(placed.masks, (ONE, OTHER), strict=True):
        assert np.array_equal(mask, expected > 0)
    theirs = hd.seg.segread(tmp_path / "seg.dcm").get_volume(segment_numbers=[2], rescale_fractional=False)
    there = np.argwhere(np.asarray(theirs.array)[..., 0] > 0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ theirs.affine
    places = there @ affine[:3, :3].T + affine[:3, 3]
    ours = scan.grid.index_to_world(np.argwhere(placed.masks[1]))
    assert np.allclose(np.sort(places, axis=0), np.sort(ours, axis=0), atol=1e-3)


def test_a_region_of_another_frame_of_reference_is_refused_unless_it_lies_on_the_scans_voxels(tmp_path):
    drawn = write_segmentation(tmp_path / "a.dcm", [frames(ONE)], ["tumour"], FrameOfReferenceUID="1.2.3.66")
    placed = regions_on_grid(read_regions(drawn), SCAN, [], "1.2.3.5")
    assert any("names another frame of reference" in note for note in placed.notes)
    aside = write_segmentation(
        tmp_path / "b.dcm", [frames(ONE)], ["tumour"], FrameOfReferenceUID="1.2.3.66", origin=(0.7, 0, 0)
    )
    with pytest.raises(InputError, match=r"b\.dcm: region tumour belongs to another frame of reference"):
        regions_on_grid(read_regions(aside), SCAN, [], "1.2.3.5")
    # Without DICOM on one side there is nothing to compare.
    assert regions_on_grid(read_regions(aside), SCAN).masks[0].any()


def circle(radius, centre, z, count=180):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack(
        [centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles), np.full(count, z)], axis=1
    )


def test_contours_are_filled_where_they_were_drawn(tmp_path):
    path = write_structure_set(tmp_path / "rt.dcm", {"cylinder": [circle(10, (20, 15), 3.0 * k) for k in range(2, 8)]})
    (region,) = read_regions(path)
    assert region.frame_of_reference == "1.2.3.5"
    assert region.voxels * region.grid.voxel_volume == pytest.approx(np.pi * 100 * 18, rel=0.01)
    centre = region.grid.index_to_world(np.argwhere(region.mask.voxels).mean(axis=0))
    assert np.allclose(centre, (-20, -15, 13.5), atol=0.05)
    mask = regions_on_grid([region], SCAN, [], "1.2.3.5").masks[0]
    i, j, k = np.indices(SCAN.shape)
    radius, within = np.hypot(2 * i - 20, 2 * j - 15), (k >= 2) & (k < 8)
    assert mask[within & (radius < 9.85)].all()
    assert not mask[~within | (radius > 10.15)].any()


def test_a_contour_within_another_is_a_hole(tmp_path):
    drawn = [one for k in range(4) for one in (circle(12, (20, 15), 3.0 * k), circle(6, (20, 15), 3.0 * k))]
    (region,) = read_regions(write_structure_set(tmp_path / "rt.dcm", {"ring": drawn}))
    assert region.voxels * region.grid.voxel_volume == pytest.approx(np.pi * (144 - 36) * 12, rel=0.02)


def test_contours_on_tilted_planes_are_filled_there(tmp_path):
    turn = np.array([[1, 0, 0], [0, np.cos(0.4), -np.sin(0.4)], [0, np.sin(0.4), np.cos(0.4)]])
    drawn = [circle(9, (5, 5), 2.0 * k) @ turn.T for k in range(6)]
    (region,) = read_regions(write_structure_set(tmp_path / "rt.dcm", {"tilted": drawn}))
    centre = region.grid.index_to_world(np.argwhere(region.mask.voxels).mean(axis=0)) * (-1, -1, 1)
    assert np.allclose(centre, turn @ (5, 5, 5), atol=0.1)
    assert region.voxels * region.grid.voxel_volume == pytest.approx(np.pi * 81 * 12, rel=0.02)


def test_contours_far_apart_are_refused_before_memory_is_taken(tmp_path):
    square = np.array([[0, 0], [1e7, 0], [1e7, 1e7], [0, 1e7]])
    path = write_structure_set(tmp_path / "rt.dcm", {"one": [np.c_[square, np.full(4, 3.0 * k)] for k in range(4)]})
    with pytest.raises(InputError, match=r"the contours of one span 1e\+07 x 1e\+07 mm on 4 planes"):
        read_regions(path)


def test_contours_that_are_not_flat_are_refused(tmp_path):
    bent = circle(9, (5, 5), 0.0)
    bent[:40, 2] += 3
    with pytest.raises(InputError, match="do not lie in parallel planes"):
        read_regions(write_structure_set(tmp_path / "rt.dcm", {"bent": [bent]}))


def test_a_mask_kept_as_a_dicom_series_is_a_region(tmp_path):
    write_series(tmp_path / "mask", frames(ONE).astype(float), intercept=0)
    assert np.array_equal(named_region("x", tmp_path / "mask").mask.voxels, ONE)


# By name, on the scan


def test_a_name_chooses_among_segments_and_without_it_all_come_with_a_note(tmp_path):
    path = write_segmentation(tmp_path / "seg.dcm", [frames(ONE), frames(OTHER)], ["tumour", "node"])
    assert named_region("node", path).voxels == 125
    with pytest.raises(InputError, match="2 segments in it and none is 'organ': tumour, node"):
        named_region("organ", path)
    regions = named_regions("organ", path)
    assert [region.name for region in regions] == ["tumour", "node"]
    assert "no segment 'organ'" in regions[0].notes[-1]


def test_one_segment_takes_the_name_that_is_given(tmp_path):
    path = write_segmentation(tmp_path / "seg.dcm", [frames(ONE)], ["segment 1"])
    assert named_region("tumour", path).name == "tumour"


def test_a_label_map_given_a_name_is_one_region(tmp_path):
    label_map(tmp_path / "seg.nii.gz")
    assert named_region("both", tmp_path / "seg.nii.gz").voxels == 128


def test_a_label_of_a_label_map_is_found_again_by_its_name(tmp_path):
    label_map(tmp_path / "seg.nii.gz")
    assert named_region("label 7", tmp_path / "seg.nii.gz").voxels == 64
    (tmp_path / "seg.csv").write_text("3,spleen\n")
    assert named_region("spleen", tmp_path / "seg.nii.gz").voxels == 64


@pytest.mark.parametrize("name", ["heart", "Heart", "h/e:a|r t"])
def test_a_name_of_a_class_or_of_another_region_is_refused(name):
    with pytest.raises(InputError, match="give it a name of its own"):
        check_names([name], ["background", "heart", "h_e_a_r_t"])
    with pytest.raises(InputError, match="give it a name of its own"):
        check_names(["nodule", "Nodule"], ["heart"])


def test_an_empty_file_is_refused_and_a_region_beyond_the_scan_is_told(tmp_path):
    empty = write_volume(Volume(np.zeros(SCAN.shape, np.uint8), SCAN), tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match=r"empty\.nii\.gz: no region in it has a voxel above 0"):
        read_regions(empty)
    with pytest.raises(InputError, match=r"empty\.nii\.gz: region x has no voxel above 0"):
        regions_on_grid(as_regions({"x": empty}), SCAN)
    far = SCAN.affine.copy()
    far[0, 3] = 900
    placed = regions_on_grid([Region.from_mask("far", ONE, Grid(SCAN.shape, far))], SCAN)
    assert placed.notes == ("region far has no voxel within the scan; its importance is 0",)


def test_a_case_without_a_finding_has_an_empty_mask_and_no_region(tmp_path):
    empty = write_volume(Volume(np.zeros(SCAN.shape, np.uint8), SCAN), tmp_path / "empty.nii.gz")
    full = write_volume(Volume(ONE, SCAN), tmp_path / "full.nii.gz")
    assert list(present_regions({"a": empty, "b": full})) == ["b"]


def test_a_region_on_a_finer_grid_is_placed_by_its_own_geometry(tmp_path):
    fine = Grid((40, 32, 36), np.array([[0, -1.0, 0, -3], [-1.0, 0, 0, -2], [0, 0, 1.0, 1], [0, 0, 0, 1]]))
    mask = block(fine.shape, (4, 6, 8), (20, 22, 24))
    region = Region.from_mask("x", mask, fine)
    placed = regions_on_grid([region], SCAN).masks[0]
    ours = SCAN.index_to_world(np.argwhere(placed).mean(axis=0))
    assert np.allclose(ours, fine.index_to_world(np.argwhere(mask).mean(axis=0)), atol=0.8)


def test_the_command_line_takes_one_region_and_files_of_many(tmp_path):
    label_map(tmp_path / "seg.nii.gz")
    write_volume(Volume(ONE, SCAN), tmp_path / "mask.nii.gz")
    found = regions_of([f"nodule={tmp_path / 'mask.nii.gz'}"], [str(tmp_path / "seg.nii.gz")])
    assert list(found) == ["nodule", "label 3", "label 7"]
    with pytest.raises(InputError, match="'label 3' is in"):
        regions_of([f"label 3={tmp_path / 'mask.nii.gz'}"], [str(tmp_path / "seg.nii.gz")])
    with pytest.raises(InputError, match="is not NAME=FILE"):
        regions_of(["nodule"])
