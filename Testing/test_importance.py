"""RoI importance (equation 7): shares that add up, companions that agree, tables that survive their files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.importance import MEASURES, ImportanceTable, Rois, absent_row, build_table, importance_row

WHOLE = (slice(None), slice(None), slice(None))


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(2, 6)) for _ in range(3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 6))
    values = rng.normal(size=shape) * 10.0 ** draw(st.integers(-12, 12))
    labels = rng.integers(0, count, shape).astype(np.uint8)
    regions = [rng.random(shape) < share for share in draw(st.lists(st.floats(0, 1), max_size=3))]
    return values, labels, count, regions


@given(cases())
@settings(max_examples=100, deadline=None)
def test_every_measure_is_what_its_definition_says(case):
    values, labels, count, regions = case
    row = importance_row(values, WHOLE, labels, count, regions)
    masks = [labels == index for index in range(count)] + regions
    total, volume = np.abs(values).sum(), labels.size
    for number, mask in enumerate(masks):
        inside, voxels = np.abs(values[mask]).sum(), mask.sum()
        assert row["mass"][number] == pytest.approx(inside / total)
        assert row["voxels"][number] == voxels
        for name, part in (("positive", values.clip(min=0)), ("negative", -values.clip(max=0))):
            expected = part[mask].sum() / part.sum() if part.sum() > 0 else np.nan
            assert row[name][number] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)
        if voxels:
            assert row["mean_density"][number] == pytest.approx(inside / voxels)
            assert row["enrichment"][number] == pytest.approx((inside / total) / (voxels / volume))
        else:
            assert np.isnan(row["mean_density"][number])
            assert np.isnan(row["enrichment"][number])


@given(cases(), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_shares_over_the_classes_sum_to_one_and_do_not_depend_on_the_scale(case, factor):
    values, labels, count, regions = case
    row = importance_row(values, WHOLE, labels, count, regions)
    assert row["mass"][:count].sum() == pytest.approx(1.0)
    scaled = importance_row(values * factor, WHOLE, labels, count, regions)
    assert np.allclose(scaled["mass"], row["mass"])
    assert np.allclose(scaled["enrichment"], row["enrichment"], equal_nan=True)


@given(cases(), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_a_cropped_attribution_gives_what_the_whole_one_gives(case, margin):
    values, labels, count, regions = case
    box = tuple(slice(0, max(n - margin, 1)) for n in labels.shape)
    whole = np.zeros(labels.shape)
    whole[box] = values[box]
    first, other = (
        importance_row(values[box], box, labels, count, regions),
        importance_row(whole, WHOLE, labels, count, regions),
    )
    assert all(np.allclose(first[m], other[m], equal_nan=True) for m in MEASURES)


@given(cases())
@settings(max_examples=50, deadline=None)
def test_a_region_made_of_two_holds_what_both_hold(case):
    values, labels, count, _ = case
    parts = [labels == 0, labels != 0]
    row = importance_row(values, WHOLE, labels, count, [*parts, parts[0] | parts[1]])
    assert row["mass"][-1] == pytest.approx(row["mass"][-2] + row["mass"][-3])
    assert row["mass"][-1] == pytest.approx(1.0)


def test_a_large_volume_of_float32_loses_no_digits():
    values = np.full((64, 64, 64), 0.1, np.float32)
    labels = np.zeros(values.shape, np.uint8)
    labels[0, 0, 0] = 1
    row = importance_row(values, WHOLE, labels, 2)
    assert row["mass"][1] == pytest.approx(1 / 64**3, rel=1e-9)


def test_an_attribution_of_zero_has_no_shares():
    labels = np.array([[[0, 1, 1]]])
    row = importance_row(np.zeros((1, 1, 3)), WHOLE, labels, 2)
    assert all(np.isnan(row[m]).all() for m in MEASURES if m != "voxels")
    assert row["voxels"].tolist() == [1, 2]
    gone = absent_row(labels, 2, [labels == 1])
    assert np.isnan(gone["mass"]).all()
    assert gone["voxels"].tolist() == [1, 2, 2]


def test_only_positive_attributions_have_no_negative_shares():
    row = importance_row(np.ones((1, 1, 3)), WHOLE, np.array([[[0, 1, 1]]]), 2)
    assert row["positive"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert np.isnan(row["negative"]).all()


def a_table():
    labels = np.arange(24).reshape(2, 3, 4) % 3
    values = np.random.default_rng(0).normal(size=labels.shape)
    rows = {
        "heart": importance_row(values, WHOLE, labels, 3, [labels > 0]),
        "aorta": absent_row(labels, 3, [labels > 0]),
    }
    return build_table(rows, ["background", "heart", "aorta", "my, finding"])


def test_the_table_comes_back_from_its_file_bit_by_bit(tmp_path):
    table = a_table()
    table.to_long_csv(tmp_path / "long.csv")
    back = ImportanceTable.from_long_csv(tmp_path / "long.csv")
    assert (back.classes, back.rois) == (table.classes, table.rois)
    assert all(np.array_equal(back.matrix(m), table.matrix(m), equal_nan=True) for m in MEASURES)


def test_context_is_what_lies_outside_the_class_itself():
    table = a_table()
    context = table.context()
    assert context[0] == pytest.approx(1 - table.matrix("mass")[0, 1])
    assert np.isnan(context[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("mass", "weight"), "does not have the columns"),
        (lambda text: text.replace("24", "x") if "24" in text else text + "heart,x,1,2\n", "line"),
        (lambda text: text + text.splitlines()[1] + "\n", "given twice"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "lacks regions"),
        (lambda text: text + "heart,elsewhere,a,1,1,1,1,1\n", "not a number"),
    ],
)
def test_a_damaged_table_is_refused_with_its_name(tmp_path, change, words):
    path = tmp_path / "long.csv"
    a_table().to_long_csv(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=words) as refusal:
        ImportanceTable.from_long_csv(path)
    assert str(path) in str(refusal.value)


def test_a_table_that_is_not_there_or_is_not_text_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        ImportanceTable.from_long_csv(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot be read"):
        ImportanceTable.from_long_csv(tmp_path / "bytes.csv")


def test_a_table_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        a_table().to_long_csv(tmp_path / "no" / "long.csv")


def test_a_row_takes_at_most_twice_the_memory_of_the_map():
    import tracemalloc

    rng = np.random.default_rng(0)
    shape = (160, 128, 128)
    values = rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(0, 9, shape).astype(np.uint8)
    rois = Rois(labels, [str(n) for n in range(9)], {"half": labels > 4})
    whole = tuple(slice(0, n) for n in shape)
    tracemalloc.start()
    row = rois.row(values, whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 2 * values.nbytes
    strength = np.abs(values.astype(np.float64))
    expected = [strength[labels == n].sum() / strength.sum() for n in range(9)]
    assert row["mass"][:9] == pytest.approx(expected, rel=1e-12)
    assert row["positive"][9] == pytest.approx(
        np.maximum(values, 0)[labels > 4].sum() / np.maximum(values, 0).sum(), rel=1e-5
    )
