"""Random DICOM series and multi-frame files lie where two independent readers put them, or are refused."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.volume import read_volume
from Testing.dicom_writing import write_enhanced, write_series

highdicom = pytest.importorskip("highdicom")
RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SLICES = 6


def turned(angles, order, signs):
    matrix = np.eye(3)
    for (one, other), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        step = np.eye(3)
        step[[one, other], [one, other]] = np.cos(angle)
        step[one, other], step[other, one] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ step
    return matrix[:, order] * signs


@st.composite
def series(draw):
    """Return how a series lies and is kept, and what is wrong with one of its slices, if anything."""
    angles = [draw(st.sampled_from([0.0, 0.01, -0.3, 0.7]) | st.floats(-0.7, 0.7)) for _ in range(3)]
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    axes = turned(angles, draw(st.permutations(range(3))), signs).T[:2]
    return {
        "axes": axes,
        "spacing": tuple(draw(st.floats(0.3, 6.0)) for _ in range(3)),
        "origin": tuple(draw(st.floats(-400, 400)) for _ in range(3)),
        "travel": draw(st.sampled_from([-1, 1])),
        "names": draw(
            st.sampled_from([list(range(SLICES)), list(range(SLICES))[::-1]]) | st.permutations(range(SLICES))
        ),
        "copies": draw(st.lists(st.integers(0, SLICES - 1), max_size=2, unique=True)),
        "size": (draw(st.integers(4, 7)), draw(st.integers(4, 7))),
        "enhanced": draw(st.booleans()),
        "wrong": draw(st.sampled_from(["", "", "", "place", "aside", "orientation", "pixel size"])),
        "slice": draw(st.integers(1, SLICES - 2)),
    }


def positions_of(made):
    """Return where each slice begins, LPS millimetres, with one slice on another's place or aside when it is to be wrong."""
    step = np.cross(*made["axes"]) * made["spacing"][2] * made["travel"]
    places = np.asarray(made["origin"]) + np.arange(SLICES)[:, None] * step
    odd = made["slice"]
    if made["wrong"] == "place":
        places[odd] = places[odd - 1]
    if made["wrong"] == "aside":
        places[odd] += 0.2 * made["axes"][0]
    return places


def write(folder, made, hu):
    """Write the series and return what is given to the reader, and the slices that others read."""
    places, odd, axes, spacing = positions_of(made), made["slice"], made["axes"], made["spacing"]
    if made["enhanced"] and made["wrong"] not in ("orientation", "pixel size"):
        order = list(made["names"])
        path = write_enhanced(folder / "one.dcm", hu[order], places[order], axes=axes, spacing=spacing[:2])
        return path, [path]

    def change(k):
        changed = {"SOPInstanceUID": f"1.2.3.4.{k + 1}", "position": places[k]}
        if k == odd and made["wrong"] == "orientation":
            changed["axes"] = (axes[1], -axes[0])
        if k == odd and made["wrong"] == "pixel size":
            changed["spacing"] = (spacing[0] + 0.2, spacing[1])
        return changed

    write_series(folder / "first", hu, axes=axes, spacing=spacing, change=change)
    # The file names say nothing of the order.
    (folder / "plain").mkdir()
    files = [folder / "plain" / f"{name}.dcm" for name in made["names"]]
    for k, file in enumerate(files):
        (folder / "first" / f"IM{k:04d}.dcm").rename(file)
    for k in made["copies"]:
        shutil.copy(files[k], folder / "plain" / f"copy{k}.dcm")
    return folder / "plain", files


def by_simpleitk(given_path, files):
    """Return voxels (i, j, k) and affine, LPS, as SimpleITK puts a series or a multi-frame file together."""
    if given_path.is_dir():
        reader = sitk.ImageSeriesReader()
        normal = np.cross(*np.reshape(pydicom.dcmread(files[0]).ImageOrientationPatient, (2, 3)).astype(float))
        reader.SetFileNames([str(file) for file in sorted(files, key=lambda file: along(file, normal))])
        image = reader.Execute()
    else:
        image = sitk.ReadImage(str(given_path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine


def along(file, normal):
    return float(np.array(pydicom.dcmread(file).ImagePositionPatient, float) @ normal)


def by_highdicom(given_path, files):
    """Return the same as highdicom puts it together; its axes are slices, rows, columns."""
    if given_path.is_dir():
        found = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in files])
    else:
        found = highdicom.image.imread(given_path).get_volume(apply_modality_transform=True, atol=1e-3)
    affine = found.affine.copy()
    affine[:, :3] = affine[:, 2::-1]
    return found.array.transpose(2, 1, 0), affine


def assert_placed_alike(found, voxels, affine):
    """Every voxel of one is at the same place in the other, with the same value, whichever way the slices are counted."""
    corner = np.rint(found.grid.world_to_index((RAS @ affine)[:3, 3])).astype(int)
    assert found.shape == voxels.shape
    turn = np.rint(np.linalg.inv(found.affine)[:3, :3] @ (RAS @ affine)[:3, :3]).astype(int)
    assert sorted(map(tuple, abs(turn))) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    for index in ((0, 0, 0), tuple(np.array(voxels.shape) - 1), (1, 2, 3)):
        place = (RAS @ affine @ (*index, 1))[:3]
        assert np.linalg.norm(found.grid.index_to_world(corner + turn @ index) - place) < 5e-3
    index = np.stack(np.meshgrid(*map(np.arange, voxels.shape), indexing="ij"), axis=-1) @ turn.T + corner
    assert np.array_equal(found.voxels[tuple(np.moveaxis(index, -1, 0))], voxels)


def check(folder, made):
    hu = np.random.default_rng(1).integers(-1000, 1500, (SLICES, *made["size"])).astype(float)
    path, files = write(folder, made, hu)
    if made["wrong"]:
        with pytest.raises(InputError, match=r"^[^\n]+; [^\n]+$"):
            read_volume(path)
        return
    found = read_volume(path)
    assert_placed_alike(found, *by_highdicom(path, files))
    # ITK takes the frames of a multi-frame file in the order of the file.
    if path.is_dir() or made["names"] in (list(range(SLICES)), list(range(SLICES))[::-1]):
        assert_placed_alike(found, *by_simpleitk(path, files))
    assert len([note for note in found.notes if "SOPInstanceUID" not in note]) == 0
    # And as the headers say, by arithmetic alone.
    for k, place in enumerate(positions_of(made)):
        index = found.grid.world_to_index(place * np.diag(RAS)[:3])
        assert np.allclose(index, np.rint(index), atol=0.02)
        assert found.voxels[tuple(np.rint(index).astype(int))] == hu[k, 0, 0]


@given(series())
@settings(max_examples=40, deadline=None)
def test_any_series_is_placed_as_two_other_readers_place_it_or_refused(tmp_path_factory, made):
    check(tmp_path_factory.mktemp("any"), made)


@pytest.mark.slow
@given(series())
@settings(max_examples=200, deadline=None)
def test_two_hundred_series_are_placed_as_two_other_readers_place_them_or_refused(tmp_path_factory, made):
    check(tmp_path_factory.mktemp("any"), made)
