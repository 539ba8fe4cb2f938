"""Windows per pass: chosen by the device, and fewer where memory is full, without losing what is finished."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from small_networks import Smooth  # noqa: E402

from Agg2ExpLib.case import Case  # noqa: E402
from Agg2ExpLib.device import Compute  # noqa: E402
from Agg2ExpLib.methods import Gradient, KernelSHAP  # noqa: E402
from Agg2ExpLib.models import Tiling, from_module  # noqa: E402
from Agg2ExpLib.volume import Grid, Volume  # noqa: E402


class Small(Smooth):
    """A network on a device whose memory holds few windows."""

    room = 2

    def forward(self, x):
        self.calls.append(len(x))
        if len(x) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.layers(x)


def _answers(network, batch_size):
    shape = (30, 9, 10)
    scan = Volume(np.random.default_rng(3).normal(size=shape), Grid(shape, np.eye(4)))
    model = from_module(network, classes="abcd", tiling=Tiling((8, 9, 8)), removed=-1.5)
    case = Case.open(scan, model, compute=Compute("cpu", batch_size=batch_size))
    found = [*case.attribute(Gradient(), ["b", "c"]), *case.attribute(KernelSHAP(samples=8), ["b", "c"])]
    assert len(found) == 4
    return [one.full(shape) for one in found], case.passes


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost():
    expected, passes = _answers(Smooth(), None)
    network = Small()
    found, same = _answers(network, 7)
    for one, other in zip(expected, found, strict=True):
        assert np.allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(one).max())
    # It is learned once: 7, then 3, then 1, each for the segmentation alone.
    assert [size for size in network.calls if size > 2] == [7, 3]
    assert same.backward == passes.backward


def test_a_window_that_does_not_fit_alone_is_told():
    network = Small()
    network.room = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        _answers(network, 2)


def test_the_number_is_chosen_by_the_device():
    assert [Compute(name).windows_at_once for name in ("cpu", "cuda:0")] == [1, 4]
    assert Compute("cuda:0", batch_size=3).windows_at_once == 3
