"""Supervoxels: every kind is a partition with the sizes and borders that it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.supervoxels import ELSEWHERE, Supervoxels, make_supervoxels

NAMES = ("background", "lung", "heart", "never")


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    prediction = np.zeros((24, 20, 22), dtype=np.uint8)
    prediction[4:20, 4:16, 4:18] = 1
    prediction[8:14, 6:12, 7:13] = 2
    image = np.choose(prediction, [0.0, 0.2, 0.6]) + rng.uniform(0, 0.05, prediction.shape)
    return image.astype(np.float32), prediction


def made(kind, scan, **options):
    return make_supervoxels(kind, *scan, NAMES, **options)


@pytest.mark.parametrize("kind", ["semantic", "cubes", "slic", "organ-aware"])
def test_every_kind_divides_the_whole_scan(scan, kind):
    found = made(kind, scan, count=40)
    assert found.labels.shape == scan[0].shape
    assert np.unique(found.labels).tolist() == list(range(1, len(found.names) + 1))
    assert found.sizes.sum() == scan[0].size
    assert len(set(found.names)) == len(found.names)


def test_semantic_supervoxels_are_the_predicted_classes(scan):
    found = made("semantic", scan)
    assert found.names == ("background", "lung", "heart")
    for number, label in enumerate((0, 1, 2), start=1):
        assert np.array_equal(found.labels == number, scan[1] == label)


@given(
    shape=st.tuples(*[st.integers(2, 30)] * 3),
    count=st.integers(2, 200),
    spacing=st.tuples(*[st.sampled_from([0.7, 1.5, 3.0])] * 3),
)
@settings(max_examples=60, deadline=None)
def test_cubes_are_boxes_of_their_own_number_and_no_more_than_asked(shape, count, spacing):
    empty = np.zeros(shape)
    try:
        found = make_supervoxels("cubes", empty, empty.astype(int), NAMES, count=count, spacing=spacing)
    except InputError:
        assert count < 4
        return
    assert len(found.names) <= count
    assert found.sizes.min() > 0
    where = np.indices(shape).reshape(3, -1)
    flat = found.labels.ravel()
    for number in range(1, len(found.names) + 1):
        inside = where[:, flat == number]
        box = inside.max(axis=1) - inside.min(axis=1) + 1
        assert box.prod() == inside.shape[1]


def test_about_512_cubes_of_a_usual_scan():
    empty = np.zeros((112, 86, 100))
    found = make_supervoxels("cubes", empty, empty.astype(int), NAMES)
    assert 400 <= len(found.names) <= 512
    assert found.sizes.max() < 2 * found.sizes.min()


def test_cubes_are_as_long_along_every_axis_in_millimetres():
    empty = np.zeros((40, 40, 10))
    found = make_supervoxels("cubes", empty, empty.astype(int), NAMES, count=64, spacing=(1.0, 1.0, 4.0))
    inside = np.argwhere(found.labels == 1)
    assert (inside.max(axis=0) + 1).tolist() in ([10, 10, 2], [10, 10, 3])


def test_slic_keeps_to_borders_of_intensity_better_than_cubes(scan):
    def mixed(found):
        table = np.zeros((len(found.names), 3))
        np.add.at(table, (found.labels.ravel() - 1, scan[1].ravel()), 1)
        return 1 - table.max(axis=1).sum() / scan[1].size

    assert mixed(made("slic", scan, count=60)) < mixed(made("cubes", scan, count=60)) / 2


def test_organ_aware_supervoxels_never_cross_a_structures_border(scan):
    found = made("organ-aware", scan, count=60)
    for number, name in enumerate(found.names, start=1):
        classes = np.unique(scan[1][found.labels == number])
        assert len(classes) == 1
        assert name.rpartition(" ")[0] == NAMES[classes[0]]


def test_organ_aware_supervoxels_have_no_crumbs(scan):
    found = made("organ-aware", scan, count=60)
    assert found.sizes.min() >= 0.05 * scan[0].size / 60
    assert len(found.names) < 120


def test_regions_are_the_users_and_the_rest_is_one_more(scan):
    first, second = (np.zeros(scan[0].shape, dtype=bool) for _ in range(2))
    first[2:6], second[4:9] = True, True
    found = made("regions", scan, regions={"first": first, "second": second, "outside": np.zeros_like(first)})
    assert found.names == ("first", "second", ELSEWHERE)
    assert np.array_equal(found.labels == 2, second)
    assert np.array_equal(found.labels == 1, first & ~second)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("blobs", {}, "unknown supervoxels 'blobs': use semantic, cubes, slic, organ-aware, regions"),
        ("cubes", {"count": 1}, "must be at least 2"),
        ("regions", {}, "need at least one region; give --roi"),
        ("regions", {"regions": {"far": np.zeros((3, 3, 3), bool)}}, r"region far has shape \(3, 3, 3\)"),
    ],
)
def test_what_cannot_be_divided_is_said(scan, kind, options, words):
    with pytest.raises(InputError, match=words):
        made(kind, scan, **options)


@pytest.mark.parametrize(("names", "words"), [(("one",), "is only 1 supervoxel"), ((), "is no supervoxel")])
def test_fewer_than_two_supervoxels_are_refused(names, words):
    with pytest.raises(InputError, match=words):
        Supervoxels(np.zeros((2, 2, 2), dtype=np.int32), names)


def test_a_map_of_another_grid_is_refused(scan):
    with pytest.raises(InputError, match=r"shape \(24, 20, 22\), but the scan on the model's grid has \(8, 8, 8\)"):
        made("semantic", scan).check_grid((8, 8, 8))
