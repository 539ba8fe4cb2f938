"""Contours of structure sets: how thick each is, and what several contours on one slice enclose."""

import numpy as np
import pytest

from Agg2ExpLib.regions import contours, read_regions, regions_on_grid
from Agg2ExpLib.volume import Grid
from Testing.dicom_writing import write_structure_set

# LPS positions (0, 0, 0) on, 1 mm.
SCAN = Grid((30, 30, 40), np.diag([-1.0, -1.0, 1.0, 1.0]))


def square(z, low=5.0, size=10.0):
    """A square of ``size`` x ``size`` voxels of the scan."""
    a, b = low - 0.5, low + size - 0.5
    return np.array([[a, a, z], [b, a, z], [b, b, z], [a, b, z]])


def on_scan(path, drawn, scan=SCAN, **given):
    """Return masks and notes of a structure set on the scan."""
    placed = regions_on_grid(read_regions(write_structure_set(path / "rt.dcm", drawn, **given)), scan)
    return placed.masks, " ".join(placed.notes)


@pytest.mark.parametrize("places", [(0, 3, 6), (5, 15), (5, 6, 7, 20, 21), (9,)])
def test_a_contour_is_as_thick_as_the_scans_slices(tmp_path, places):
    (mask,), notes = on_scan(tmp_path, {"x": [square(float(z)) for z in places]})
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == list(places)
    assert mask.sum() == 100 * len(places)
    assert "each contour was taken to be 1 mm thick, the scan's distance of slices." in notes
    missing = max(places) - min(places) + 1 - len(places)
    assert (f"no contour on {missing} slices" in notes) == (missing > 0)


def test_the_slices_of_a_scan_count_along_the_axis_that_contours_are_stacked_on(tmp_path):
    sideways = [square(float(z))[:, [2, 0, 1]] for z in (6, 9)]
    (mask,), _ = on_scan(tmp_path, {"x": sideways})
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [6, 9]


def test_without_a_scan_the_smallest_step_of_the_structure_set_is_the_thickness(tmp_path):
    drawn = {"sparse": [square(0.0), square(9.0)], "dense": [square(3.0 * k) for k in range(4)]}
    sparse, dense = read_regions(write_structure_set(tmp_path / "rt.dcm", drawn))
    volumes = [region.voxels * region.grid.voxel_volume for region in (sparse, dense)]
    assert volumes == pytest.approx([600, 1200], rel=0.06)
    assert "3 mm thick, the smallest distance of contours in the structure set" in sparse.slab
    assert "no contour on 2 slices" in sparse.slab


def test_a_stated_thickness_is_taken(tmp_path):
    path = write_structure_set(tmp_path / "rt.dcm", {"x": [square(0.0), square(9.0)]}, ContourSlabThickness=1.5)
    (region,) = read_regions(path)
    assert region.grid.spacing[2] == pytest.approx(1.5)
    assert "1.5 mm thick, as the structure set says" in region.slab


def test_contours_drawn_on_other_slices_than_the_scans_keep_their_own_thickness(tmp_path):
    (mask,), notes = on_scan(tmp_path, {"x": [square(2.5 * k + 1) for k in range(5)]})
    assert mask.sum() == pytest.approx(100 * 12.5, abs=100)
    assert "2.5 mm thick, the smallest distance" in notes


def test_a_contour_that_is_sent_twice_counts_once(tmp_path):
    turned = np.roll(square(5.0), 1, axis=0)[::-1]
    (mask,), notes = on_scan(tmp_path, {"x": [square(5.0), turned, square(6.0), square(6.0)]})
    assert mask.sum() == 200
    assert "x: 2 contours equal another one on their slice and were left out." in notes


def test_contours_that_overlap_in_part_are_joined_and_it_is_said(tmp_path):
    drawn = {"x": [square(5.0, 5), square(5.0, 10)]}
    (mask,), notes = on_scan(tmp_path, drawn)
    assert mask.sum() == 175
    assert "x: contours overlap in part on 1 slices" in notes
    (mask,), notes = on_scan(tmp_path, drawn, kind="CLOSEDPLANAR_XOR")
    assert mask.sum() == 150
    assert "overlap in part" not in notes


def test_an_island_in_a_hole_is_solid_and_a_hole_stays_one_beside_an_overlapping_contour(tmp_path):
    drawn = [square(5.0, 2, 20), square(5.0, 5, 14), square(5.0, 8, 4), square(5.0, 20, 6)]
    for order in (drawn, drawn[::-1]):
        (mask,), _ = on_scan(tmp_path, {"x": order})
        assert mask.sum() == 400 - 196 + 16 + 36 - 4


def test_many_empty_slices_between_contours_take_no_memory(tmp_path, monkeypatch):
    drawn = {"x": [square(2.0), square(32.0)]}
    (region,) = read_regions(write_structure_set(tmp_path / "rt.dcm", drawn))
    monkeypatch.setattr(contours, "_MOST_VOXELS", 20_000)
    fitted = contours.as_thick_as_slices(region, SCAN)
    assert fitted.inside.size <= 20_000
    assert fitted.grid.spacing == pytest.approx((0.5, 0.5, 1))
    mask = regions_on_grid([region], SCAN).masks[0]
    assert mask[5:15, 5:15, [2, 32]].all()
    assert mask.sum() == 200
