"""Windows and stitched predictions against MONAI's sliding-window inferer."""

import numpy as np
import pytest
import torch
from attributions import predict, stitched_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import GreyLevels, Smooth, undivided

from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import Agg2ExpError, InputError

torch.set_num_threads(1)


@given(
    st.tuples(*[st.integers(4, 20)] * 3),
    st.tuples(*[st.integers(4, 9)] * 3),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.sampled_from(["constant", "gaussian"]),
    st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_the_prediction_equals_monais(shape, window, overlap, blending, batch_size):
    torch.manual_seed(0)
    network, x = Smooth().double(), torch.rand(shape, dtype=torch.float64)
    windows = Windows(shape, window, overlap, blending)
    with torch.no_grad():
        expected = undivided(network, x, window, overlap, blending, batch_size)
    logits = stitched_logits(network, x, windows, 4, batch_size=batch_size, precision="float64")
    assert torch.allclose(logits, expected, rtol=1e-9, atol=1e-12)
    found = predict(network, x, windows, 4, batch_size=batch_size, precision="float64")
    assert np.array_equal(found.labels, expected.argmax(0).numpy())
    assert np.allclose(found.winning_logit, expected.max(0).values.numpy())
    assert np.allclose(found.confidence, expected.softmax(0).max(0).values.numpy())
    assert found.forward_passes == len(windows)


@given(st.tuples(*[st.integers(3, 24)] * 3), st.tuples(*[st.integers(3, 9)] * 3), st.floats(0, 0.8))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_voxel_and_stay_inside(shape, window, overlap):
    windows = Windows(shape, window, overlap, "constant")
    covered = np.zeros(shape, bool)
    for index in range(len(windows)):
        volume, inside = windows.inside(index)
        covered[volume] = True
        for part, of_window, size, side in zip(volume, inside, shape, window, strict=True):
            assert 0 <= part.start <= part.stop <= size
            assert 0 <= of_window.start <= of_window.stop <= side
            assert part.stop - part.start == of_window.stop - of_window.start
    assert covered.all()
    mask = np.zeros(shape, bool)
    mask[tuple(n // 2 for n in shape)] = True
    touching = windows.touching(mask)
    assert touching
    assert all(mask[windows.inside(index)[0]].any() == (index in touching) for index in range(len(windows)))


def test_a_small_buffer_gives_the_same_answer_for_more_passes():
    network, x = Smooth().double(), torch.rand((20, 9, 13), dtype=torch.float64)
    windows = Windows((20, 9, 13), (12, 10, 12), 0.25, "gaussian")
    whole = predict(network, x, windows, 4, precision="float64")
    split = predict(network, x, windows, 4, precision="float64", buffer_bytes=1)
    assert np.array_equal(split.labels, whole.labels)
    assert np.allclose(split.winning_logit, whole.winning_logit)
    assert np.allclose(split.confidence, whole.confidence)
    assert split.forward_passes == 4 * whole.forward_passes


def test_logits_are_settled_in_slabs_that_join_without_a_seam(monkeypatch):
    network, x = Smooth().double(), torch.rand((20, 9, 13), dtype=torch.float64)
    windows = Windows((20, 9, 13), (12, 10, 12), 0.25, "gaussian")
    whole = stitched_logits(network, x, windows, 4, precision="float64")
    monkeypatch.setattr("Agg2ExpLib.case.segmentation._SLAB_BYTES", 1)
    assert torch.equal(stitched_logits(network, x, windows, 4, precision="float64"), whole)


def test_a_network_that_answers_otherwise_is_refused():
    windows = Windows((8, 8, 8), (8, 8, 8))
    with pytest.raises(Agg2ExpError, match="is the label set right"):
        predict(GreyLevels(), torch.rand(8, 8, 8), windows, 3)

    def broken(x):
        return torch.full((len(x), 2, *x.shape[2:]), torch.nan)

    with pytest.raises(Agg2ExpError, match="not finite"):
        predict(broken, torch.rand(8, 8, 8), windows, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"volume_shape": (0, 4, 4)}, "must have voxels"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"blending": "cosine"}, "unknown blending"),
    ],
)
def test_windows_that_cannot_be_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        Windows(**{"volume_shape": (8, 8, 8), "window": (4, 4, 4), **changes})
