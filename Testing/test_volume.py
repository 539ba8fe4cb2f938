"""Geometry and files: every voxel stays where it is in the patient, whatever way the scan is stored."""

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.volume import (
    Grid,
    Volume,
    crop,
    file_sha256,
    labels_to_input_grid,
    model_grid,
    preprocess,
    read_volume,
    reorient,
    to_grid,
    write_volume,
)

PAIRS = ("RL", "AP", "SI")
ORIENTATIONS = ["".join(letters) for order in itertools.permutations(PAIRS) for letters in itertools.product(*order)]


def rotation(angles):
    x, y, z = (np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles)
    turns = []
    for plane, turn in (((1, 2), x), ((0, 2), y), ((0, 1), z)):
        matrix = np.eye(3)
        matrix[np.ix_(plane, plane)] = turn
        turns.append(matrix)
    return turns[0] @ turns[1] @ turns[2]


@st.composite
def grids(draw, largest=9):
    shape = tuple(draw(st.integers(4, largest)) for _ in range(3))
    spacing = [draw(st.floats(0.4, 6.0)) for _ in range(3)]
    turned = rotation([draw(st.floats(-0.6, 0.6)) for _ in range(3)])
    order = draw(st.permutations(range(3)))
    signs = np.array([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = (turned[:, order] * signs) * spacing
    affine[:3, 3] = [draw(st.floats(-400, 400)) for _ in range(3)]
    return Grid(shape, affine)


def scan(shape=(12, 14, 10), spacing=(1.0, 2.0, 3.0), seed=0, turned=(0, 0, 0)):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(turned) * np.array(spacing)
    affine[:3, 3] = (-40, 25, 310)
    return Volume(rng.uniform(-1000, 1500, shape).astype(np.float32), Grid(shape, affine))


@given(grids(), st.sampled_from(ORIENTATIONS))
@settings(max_examples=60, deadline=None)
def test_reorienting_moves_no_voxel_in_the_patient_and_can_be_undone(grid, codes):
    labels = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    turned = reorient(Volume(labels, grid), codes)
    assert turned.grid.axcodes == codes
    for index in ((0, 0, 0), tuple(n - 1 for n in turned.shape), (1, 2, 3)):
        world = turned.grid.index_to_world(index)
        old = np.rint(grid.world_to_index(world)).astype(int)
        assert np.allclose(grid.index_to_world(old), world, atol=1e-6)
        assert turned.voxels[index] == labels[tuple(old)]
    back = reorient(turned, grid.axcodes)
    assert np.array_equal(back.voxels, labels)
    assert np.allclose(back.affine, grid.affine, atol=1e-6)


@given(grids())
@settings(max_examples=40, deadline=None)
def test_axis_codes_and_turns_agree_with_nibabel(grid):
    assert grid.axcodes == "".join(nibabel.aff2axcodes(grid.affine))
    labels = np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape)
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels, grid.affine))
    ours = reorient(Volume(labels, grid), "RAS")
    assert np.array_equal(ours.voxels, np.asarray(theirs.dataobj))
    assert np.allclose(ours.affine, theirs.affine, atol=1e-5)


@given(grids(), st.floats(0.7, 4.0))
@settings(max_examples=60, deadline=None)
def test_the_models_grid_covers_the_field_of_view_and_is_centred_on_it(grid, spacing):
    target = model_grid(grid, spacing, "RAS")
    assert target.axcodes == "RAS"
    assert np.allclose(target.spacing, spacing, rtol=2e-3)
    assert np.allclose(target.centre, grid.centre, atol=1e-6)
    own = reorient(Volume(np.zeros(grid.shape), grid), "RAS").grid
    beyond = np.array(target.shape) * target.spacing - np.array(own.shape) * own.spacing
    assert (beyond > -2e-2).all()
    assert (beyond < spacing + 1e-6).all()


@given(grids(), st.floats(0.7, 3.0))
@settings(max_examples=40, deadline=None)
def test_a_linear_field_is_resampled_to_itself(grid, spacing):
    slope, offset = np.array([1.5, -2.0, 0.5]), 7.0

    def at(of):
        index = np.stack(np.meshgrid(*map(np.arange, of.shape), indexing="ij"), axis=-1)
        return of.index_to_world(index) @ slope + offset

    target = model_grid(grid, spacing, "RAS")
    found = to_grid(Volume(at(grid), grid), target).voxels
    inside = grid.world_to_index(
        target.index_to_world(np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"), axis=-1))
    )
    # Beyond the outermost voxel centres the edge value holds, and the field is no longer linear.
    core = ((inside >= 0) & (inside <= np.array(grid.shape) - 1)).all(axis=-1)
    assert np.allclose(found[core], at(target)[core], atol=2e-2)


@given(grids(), st.sampled_from(ORIENTATIONS), st.floats(0.7, 4.0))
@settings(max_examples=30, deadline=None)
def test_preprocessing_gives_the_same_bits_however_the_scan_is_stored(grid, codes, spacing):
    rng = np.random.default_rng(3)
    volume = Volume(rng.uniform(-1200, 1500, grid.shape).astype(np.float32), grid)
    options = {"spacing": spacing, "orientation": "RAS", "intensity_range": (-1024.0, 1024.0)}
    first = preprocess(volume, **options)
    other = preprocess(reorient(volume, codes), **options)
    assert np.array_equal(first.voxels, other.voxels)
    assert np.allclose(first.affine, other.affine, atol=1e-6)


@given(grids(largest=7), st.sampled_from(ORIENTATIONS))
@settings(max_examples=40, deadline=None)
def test_labels_return_to_the_scans_own_grid_unchanged_without_resampling(grid, codes):
    labels = np.random.default_rng(1).integers(0, 17, grid.shape).astype(np.uint8)
    there = reorient(Volume(labels, grid), codes)
    assert np.array_equal(labels_to_input_grid(there, grid).voxels, labels)


def test_a_block_returns_to_the_input_grid_without_a_shift():
    fine = scan((40, 44, 36), (1.0, 1.0, 1.0), turned=(0.2, -0.1, 0.15))
    block = np.zeros(fine.shape, dtype=np.uint8)
    block[10:30, 12:32, 8:26] = 1
    coarse = model_grid(fine.grid, 2.0, "RAS")
    there = to_grid(Volume(block, fine.grid), coarse, "nearest")
    back = labels_to_input_grid(there, fine.grid).voxels
    centres = [np.argwhere(one).mean(axis=0) for one in (block, back)]
    assert np.abs(centres[0] - centres[1]).max() < 0.5
    assert 2 * (block & back).sum() / (block.sum() + back.sum()) > 0.95


@pytest.mark.parametrize(("own", "models"), [(1.0, 1.5), (3.0, 4.0), (2.0, 3.0), (1.5, 1.0), (0.8, 1.5)])
def test_resampling_labels_there_and_back_prefers_no_side(own, models):
    grid = Grid((48, 48, 48), np.diag([own, own, own, 1.0]))
    places = np.broadcast_to(np.arange(48)[:, None, None], grid.shape)
    there = to_grid(Volume(places, grid), model_grid(grid, models, "RAS"), "nearest")
    back = labels_to_input_grid(there, grid).voxels
    assert abs((back - places).mean()) < 0.05
    assert np.abs(back - places).max() <= 0.5 * models / own + 0.5


@given(st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.integers(8, 40), st.integers(8, 40))
@settings(max_examples=60, deadline=None)
def test_a_mirrored_scan_gives_mirrored_labels(spacing, count, other):
    grid = Grid((count, other, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    labels = np.random.default_rng(count).integers(0, 5, grid.shape)
    target = model_grid(grid, spacing, "RAS")
    plain = to_grid(Volume(labels, grid), target, "nearest").voxels
    mirrored = to_grid(Volume(labels[::-1], grid), target, "nearest").voxels
    # Where a position falls right between the two middle voxels, no side is the nearer one to the middle.
    same = (mirrored[::-1] == plain).all(axis=(1, 2))
    assert same.sum() >= len(same) - 1


def test_intensities_are_clipped_and_scaled():
    volume = Volume(np.array([-3000.0, -1024.0, 0.0, 1024.0, 3000.0] * 25).reshape(5, 5, 5), Grid((5, 5, 5), np.eye(4)))
    ready = preprocess(volume, spacing=None, orientation=None, intensity_range=(-1024.0, 1024.0))
    assert np.allclose(np.unique(ready.voxels), [0.0, 0.5, 1.0])
    assert ready.voxels.dtype == np.float32


def test_a_crop_keeps_every_voxel_where_it_is():
    whole = scan(turned=(0.1, 0.2, 0.3))
    part = crop(whole, (slice(2, 9), slice(3, None), slice(0, 5)))
    assert np.allclose(part.grid.index_to_world((0, 0, 0)), whole.grid.index_to_world((2, 3, 0)))
    assert part.voxels[1, 1, 1] == whole.voxels[3, 4, 1]
    assert np.array_equal(to_grid(whole, part.grid).voxels, part.voxels)


def test_beyond_the_field_of_view_lies_the_outside_value():
    volume = Volume(np.ones((6, 6, 6), np.float32), Grid((6, 6, 6), np.eye(4)))
    affine = np.eye(4)
    affine[0, 3] = 4.0
    found = to_grid(volume, Grid((6, 6, 6), affine), outside=-5).voxels
    assert (found[:2] == 1).all()
    assert (found[2:] == -5).all()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_what_is_written_is_read_back_and_other_programs_agree(tmp_path, suffix):
    volume = scan(turned=(0.2, 0.1, -0.3))
    path = write_volume(volume, tmp_path / f"scan{suffix}")
    found = read_volume(path)
    assert np.array_equal(found.voxels, volume.voxels)
    assert np.allclose(found.affine, volume.affine, atol=1e-3)
    if ".nii" in suffix:
        theirs = nibabel.load(path)
        assert np.array_equal(np.asarray(theirs.dataobj), volume.voxels)
        assert np.allclose(theirs.affine, volume.affine, atol=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_files_of_nibabel_are_read_with_their_sform(tmp_path):
    volume = scan(turned=(0.0, 0.3, 0.0))
    image = nibabel.Nifti1Image(volume.voxels, volume.affine)
    nibabel.save(image, tmp_path / "theirs.nii.gz")
    assert np.allclose(read_volume(tmp_path / "theirs.nii.gz").affine, volume.affine, atol=1e-3)


def test_hashes_tell_files_apart(tmp_path):
    first = write_volume(scan(seed=1), tmp_path / "a.nii.gz")
    other = write_volume(scan(seed=2), tmp_path / "b.nii.gz")
    assert len({file_sha256(first), file_sha256(other)}) == 2
    assert file_sha256(first) == file_sha256(first)


def test_a_volume_cannot_be_written_where_there_is_no_folder(tmp_path):
    with pytest.raises(OutputError, match=r"nowhere.* does not exist"):
        write_volume(scan(), tmp_path / "nowhere" / "scan.nii.gz")
    with pytest.raises(OutputError, match="says no format"):
        write_volume(scan(), tmp_path / "scan.jpg")


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "spacing must be positive"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "singular"),
        (np.diag([np.nan, 1.0, 1.0, 1.0]), "finite"),
        (np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "not perpendicular"),
    ],
)
def test_impossible_geometry_is_refused(affine, words):
    with pytest.raises(InputError, match=words):
        Grid((4, 4, 4), affine)
