"""Live importance: a painted region's line is what the whole computation would give, in a fraction of a second."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.importance import importance_row
from Agg2ExpLib.panel.live_importance import LiveImportance
from Agg2ExpLib.volume import Grid, Volume

SHAPE = (12, 10, 8)


def attribution(seed=0, shape=SHAPE):
    values = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    return Volume(values, Grid(shape, np.diag([3.0, 3.0, 3.0, 1.0])))


def whole(volume, mask):
    box = tuple(slice(0, size) for size in volume.shape)
    found = importance_row(volume.voxels, box, np.zeros(volume.shape, dtype=np.int16), 1, [mask])
    return {name: float(values[1]) for name, values in found.items()}


boxes = st.tuples(*(st.integers(0, size - 1).flatmap(lambda low, size=size: st.tuples(
    st.just(low), st.integers(low + 1, size))) for size in SHAPE))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(box=boxes, seed=st.integers(0, 5), cropped=st.booleans())
def test_the_line_is_what_the_whole_computation_gives(box, seed, cropped):
    volume = attribution(seed)
    where = tuple(slice(low, high) for low, high in box)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[where] = np.random.default_rng(seed).random(inside[where].shape) < 0.6
    mask = Volume(inside.astype(np.uint8), volume.grid)
    if cropped:
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [low for low, _ in box]
        shape = tuple(high - low for low, high in box)
        mask = Volume(inside[where].astype(np.uint8), Grid(shape, affine))
    row, expected = LiveImportance(volume).row(mask, "r", "r", (0, 0, 0)), whole(volume, inside)
    assert row.voxels == expected["voxels"]
    for name, measure in (("share", "mass"), ("positive", "positive"), ("negative", "negative")):
        assert getattr(row, name) == pytest.approx(expected[measure], rel=1e-6, abs=1e-9)
    assert row.enrichment == pytest.approx(expected["enrichment"], rel=1e-6, nan_ok=True)


def test_a_segment_on_a_finer_grid_counts_the_voxels_of_the_models_grid():
    volume = attribution()
    fine = np.zeros((36, 30, 24), dtype=np.uint8)
    fine[9:18, 9:18, 9:18] = 1
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -1.0
    inside = np.zeros(SHAPE, dtype=bool)
    inside[3:6, 3:6, 3:6] = True
    row = LiveImportance(volume).row(Volume(fine, Grid(fine.shape, affine)), "r", "r", (0, 0, 0))
    assert row.voxels == 27
    assert row.share == pytest.approx(whole(volume, inside)["mass"], rel=1e-6)


def test_a_region_outside_of_the_scan_holds_nothing():
    affine = np.eye(4)
    affine[:3, 3] = 1000.0
    row = LiveImportance(attribution()).row(
        Volume(np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), affine)), "r", "r", (0, 0, 0)
    )
    assert (row.share, row.voxels) == (0.0, 0)
    assert math.isnan(row.enrichment)


def test_an_attribution_of_nothing_has_no_shares():
    nothing = Volume(np.zeros(SHAPE, np.float32), Grid(SHAPE, np.eye(4)))
    row = LiveImportance(nothing).row(Volume(np.ones(SHAPE, np.uint8), nothing.grid), "r", "r", (0, 0, 0))
    assert math.isnan(row.share)
    assert row.voxels == np.prod(SHAPE)


def test_a_finding_in_a_whole_chest_is_measured_within_half_a_second():
    shape = (230, 190, 220)
    live = LiveImportance(attribution(shape=shape))
    mask = np.zeros(shape, dtype=np.uint8)
    mask[60:140, 50:130, 40:120] = 1
    begin = time.perf_counter()
    live.row(Volume(mask, live.attribution.grid), "r", "r", (0, 0, 0))
    assert time.perf_counter() - begin < 0.5
