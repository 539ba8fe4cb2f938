"""Gradients of the stitched prediction against autograd through MONAI's own undivided computation."""

import numpy as np
import pytest
import torch
from attributions import attribute, predict
from small_networks import GreyLevels, Smooth, aggregated, tiny_swin_unetr, undivided

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.objective import objectives
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.methods import METHODS
from Agg2ExpLib.models import load_model
from Agg2ExpLib.phantom import make_phantom
from Agg2ExpLib.volume import preprocess

torch.set_num_threads(1)


def explained(network, x, windows, classes, reduction="sum", precision="float64", **options):
    count = network(torch.zeros(1, 1, *windows.window, dtype=x.dtype)).shape[1]
    aims = objectives(predict(network, x, windows, count, precision=precision), windows, classes, reduction)
    options = {"method": "gradient", "precision": precision, **options}
    found = {one.class_index: one for one in attribute(network, x, windows, aims, **options)}
    # Every class of the prediction, or a loop over the answer would say nothing.
    assert set(found) == {aim.class_index for aim in aims if aim.voxels}
    return found


def reference(network, x, windows, index, reduction="sum"):
    varied = x.clone().requires_grad_(True)
    logits = undivided(network, varied, windows.window, windows.overlap, windows.blending)
    (gradient,) = torch.autograd.grad(aggregated(logits, index, reduction), varied)
    return gradient.numpy()


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
    "shape", [(20, 9, 13), (17, 26, 11), (5, 6, 7)], ids=["mixed", "large", "smaller than a window"]
)
@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_gradients_equal_the_undivided_computation(shape, blending, overlap):
    network, x = Smooth().double(), torch.rand(shape, dtype=torch.float64)
    windows = Windows(shape, (12, 10, 12), overlap, blending)
    for index, one in explained(network, x, windows, range(4), batch_size=2).items():
        assert relative_error(one.full(shape), reference(network, x, windows, index)) < 1e-9


@pytest.mark.parametrize("reduction", ["sum", "mean", "probability"])
def test_every_reduction_is_exact(reduction):
    network, x = Smooth(seed=1).double(), torch.rand((15, 14, 18), dtype=torch.float64)
    windows = Windows((15, 14, 18), (12, 10, 12), 0.25, "gaussian")
    found = explained(network, x, windows, range(4), reduction)
    assert len(found) >= 3
    for index, one in found.items():
        assert relative_error(one.full(x.shape), reference(network, x, windows, index, reduction)) < 1e-9


def test_a_real_swin_unetr_is_exact_with_constant_blending():
    # In double precision: of a random one, two voxels deep, single precision keeps three digits in any way of computing.
    network = tiny_swin_unetr().double()
    torch.manual_seed(1)
    x = torch.rand((70, 30, 32), dtype=torch.float64)
    windows = Windows((70, 30, 32), (64, 32, 32), 0.25, "constant")
    assert len(windows) == 2
    # One class is enough: each costs the undivided computation once.
    (index,) = found = explained(network, x, windows, [0], batch_size=2)
    assert relative_error(found[index].full(x.shape), reference(network, x, windows, index)) < 1e-9


def test_the_bundled_model_is_exact_in_single_precision():
    model = load_model("thorax-phantom")
    card = model.card
    scan = preprocess(
        make_phantom(seed=2024, index=1, spacing=3.0).image,
        spacing=card.spacing, orientation=card.orientation, intensity_range=card.intensity_range,
    )  # fmt: skip
    x = torch.from_numpy(scan.voxels)[20:84, 12:76, 20:88].contiguous()
    windows = Windows(tuple(x.shape), card.window, card.overlap, card.blending)
    assert len(windows) == 2
    aorta = card.labels.index("aorta")
    (one,) = explained(model, x, windows, [aorta], precision="float32").values()
    assert relative_error(one.full(x.shape), reference(model.network, x, windows, aorta)) < 1e-5


@pytest.mark.slow
def test_integrated_gradients_of_the_bundled_model_are_complete():
    model = load_model("thorax-phantom")
    card = model.card
    scan = preprocess(
        make_phantom(seed=2024, index=1, spacing=3.0).image,
        spacing=card.spacing, orientation=card.orientation, intensity_range=card.intensity_range,
    )  # fmt: skip
    x = torch.from_numpy(scan.voxels)[24:88, 10:74, 30:94].contiguous()
    windows = Windows(tuple(x.shape), card.window, card.overlap, card.blending)
    found = explained(model, x, windows, [1, 8], precision="float32", method="integrated-gradients", samples=100)
    assert sorted(found) == [1, 8]
    assert all(one.completeness_gap < 0.02 for one in found.values())


def test_a_class_absent_from_some_windows_is_exact_and_costs_only_its_own():
    network = GreyLevels()
    x = torch.full((40, 12, 12), 0.1, dtype=torch.float64)
    x[1:5, 2:6, 3:7] = 0.95
    windows = Windows((40, 12, 12), (16, 12, 12), 0.25, "gaussian")
    found = predict(network, x, windows, 4, precision="float64")
    aims = objectives(found, windows, [1])
    network.calls.clear()
    passes = PassCount()
    (one,) = attribute(network, x, windows, aims, method="gradient", precision="float64", passes=passes)
    assert len(windows) == 3
    assert sum(network.calls) == passes.forward == passes.backward == one.windows_run == 1
    assert relative_error(one.full(x.shape), reference(network, x, windows, 1)) < 1e-9


def test_a_class_absent_from_all_windows_yields_nothing_and_runs_nothing():
    network, x = GreyLevels(), torch.full((20, 12, 12), 0.1, dtype=torch.float64)
    windows = Windows((20, 12, 12), (12, 12, 12), 0.25, "constant")
    aims = objectives(predict(network, x, windows, 4, precision="float64"), windows, [1, 3])
    network.calls.clear()
    assert list(attribute(network, x, windows, aims, method="gradient", precision="float64")) == []
    assert network.calls == []
    assert [aim.voxels for aim in aims] == [0, 0]


@pytest.mark.parametrize("method", ["gradient", "smoothgrad", "integrated-gradients"])
def test_batch_size_and_grouping_do_not_change_the_result(method):
    network, x = Smooth(seed=2).double(), torch.rand((18, 14, 16), dtype=torch.float64)
    windows = Windows((18, 14, 16), (10, 10, 10), 0.5, "gaussian")
    own = {one.name for one in METHODS[method].options()}
    options = {"method": method, **{name: value for name, value in {"samples": 3, "seed": 5}.items() if name in own}}
    plain = explained(network, x, windows, range(4), **options)
    for changed in ({"batch_size": 4}, {"memory_budget": 1}, {"batch_size": 7, "memory_budget": 50_000}):
        other = explained(network, x, windows, range(4), **options, **changed)
        assert sorted(other) == sorted(plain)
        for index, one in plain.items():
            assert relative_error(other[index].full(x.shape), one.full(x.shape)) < 1e-12, changed


def test_one_class_alone_equals_all_classes_at_once():
    network, x = Smooth(seed=3).double(), torch.rand((18, 12, 12), dtype=torch.float64)
    windows = Windows((18, 12, 12), (10, 10, 10), 0.25, "gaussian")
    together = explained(network, x, windows, range(4), method="smoothgrad", samples=2)
    for index, one in together.items():
        alone = explained(network, x, windows, [index], method="smoothgrad", samples=2)[index]
        assert np.array_equal(alone.values, one.values)


def test_a_tiny_memory_budget_works_one_class_at_a_time():
    network, x = Smooth().double(), torch.rand((18, 12, 12), dtype=torch.float64)
    windows = Windows((18, 12, 12), (10, 10, 10), 0.25, "gaussian")
    found = predict(network, x, windows, 4, precision="float64")
    aims = [aim for aim in objectives(found, windows, range(4)) if aim.voxels]
    counts = []
    for budget in (2**30, 1):
        passes = PassCount()
        list(
            attribute(
                network, x, windows, aims, method="gradient", precision="float64", memory_budget=budget, passes=passes
            )
        )
        counts.append(passes)
    # Together a window runs forward once for all classes; apart, once for each.
    assert counts[0].forward == len(set().union(*(aim.windows for aim in aims)))
    assert counts[1].forward == sum(len(aim.windows) for aim in aims)
    assert counts[0].backward == counts[1].backward


def test_only_the_box_of_a_class_is_held():
    network = GreyLevels()
    x = torch.full((64, 12, 12), 0.1, dtype=torch.float64)
    x[1:5, 2:6, 3:7] = 0.95
    windows = Windows((64, 12, 12), (16, 12, 12), 0.25, "gaussian")
    (one,) = explained(network, x, windows, [1]).values()
    assert one.values.shape[0] <= 16
    assert one.full(x.shape).shape == x.shape
