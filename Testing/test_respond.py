"""The response of all classes to a region is the gradients' sum over the change, by one forward-mode pass of each window touched."""

from __future__ import annotations

import csv

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from small_networks import Smooth, write_case  # noqa: E402

from Agg2ExpLib.case import Case  # noqa: E402
from Agg2ExpLib.cli import main  # noqa: E402
from Agg2ExpLib.errors import InputError  # noqa: E402
from Agg2ExpLib.explanation import explain  # noqa: E402
from Agg2ExpLib.methods import Gradient  # noqa: E402
from Agg2ExpLib.models import Tiling, from_module  # noqa: E402
from Agg2ExpLib.request import request_of  # noqa: E402
from Agg2ExpLib.respond import respond  # noqa: E402
from Agg2ExpLib.volume import Grid, Volume, write_volume  # noqa: E402

LABELS = ("background", "one", "two", "three")


def _case(network=None, padding=None, shape=(20, 9, 10)):
    scan = np.random.default_rng(3).normal(size=shape)
    tiling = Tiling((8, 12, 8), padding=padding)
    model = from_module(network or Smooth(), classes=LABELS, tiling=tiling, removed=-1.5)
    return Case.open(Volume(scan, Grid(shape, np.eye(4))), model, device="cpu")


def _region(shape=(20, 9, 10)):
    region = np.zeros(shape, dtype=bool)
    region[2:5, 6:, 3:8] = True
    return region


@pytest.mark.parametrize("change", ["brighter", "gone"])
@pytest.mark.parametrize("padding", [None, 0.3, "edge"])
def test_the_response_is_the_gradients_sum_over_the_change(change, padding):
    case, region = _case(padding=padding), _region()
    found = respond(case, region, change, [0, 1, 2, 3])
    step = np.ones(region.shape) if change == "brighter" else -1.5 - case.prepared.x[0]
    gradients = list(case.attribute(Gradient(), [0, 1, 2, 3], "mean"))
    expected = [float((one.full(region.shape) * step)[region].sum(dtype=np.float64)) for one in gradients]
    assert len(expected) > 2
    assert found.classes == tuple(LABELS[one.class_index] for one in gradients)
    assert found.values == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert found.before == pytest.approx([one.value for one in gradients])


def test_only_windows_that_the_region_touches_are_run():
    case = _case()
    network = case.model.network
    case.segmentation  # noqa: B018 - made before passes are counted
    network.calls.clear()
    found = respond(case, _region())
    touched = [n for n in range(case.n_windows) if _region()[case.stitched[0].windows.inside(n)[0]].any()]
    assert found.windows_run == sum(network.calls) == len(touched) < case.n_windows


class _Odd(torch.autograd.Function):
    """An operation without a forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


class _OddNetwork(Smooth):
    def forward(self, x):
        return super().forward(_Odd.apply(x))


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(InputError, match="forward-mode"):
        respond(_case(_OddNetwork()), _region())
    with pytest.raises(InputError, match="no voxel"):
        respond(_case(), np.zeros((20, 9, 10), dtype=bool))
    with pytest.raises(InputError, match="brighter, gone"):
        respond(_case(), _region(), "warmer")


def test_the_command_prints_and_writes_what_the_function_answers(tmp_path, capsys):
    image, model = write_case(tmp_path)
    explanation = explain(image, model, tmp_path / "explained", request_of("gradient", device="cpu"))
    mask = np.zeros(explanation.model_prediction().shape, dtype=np.uint8)
    mask[3:7, 3:7, 3:7] = 1
    write_volume(Volume(mask, explanation.model_prediction().grid), tmp_path / "mask.nii.gz")
    asked = ["respond", str(explanation.folder), "--roi", f"mine={tmp_path / 'mask.nii.gz'}", "--classes", "one,two"]
    assert main([*asked, "--device", "cpu", "--out", str(tmp_path / "out.csv")]) == 0
    found = respond(Case.open(image, model, device="cpu"), mask > 0, classes=["one", "two"])
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == list(found.classes) != []
    assert [float(row["response"]) for row in rows] == pytest.approx(found.values, rel=1e-4)
    printed = capsys.readouterr().out
    assert all(name in printed for name in found.classes)
