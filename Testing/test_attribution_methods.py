"""SmoothGrad and integrated gradients against captum, against their axioms, and against their seed."""

import captum.attr
import numpy as np
import pytest
import torch
from attributions import attribute, predict, stitched_logits
from small_networks import Smooth, aggregated

from Agg2ExpLib.case.objective import objectives
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import Agg2ExpError, InputError
from Agg2ExpLib.methods.integrated_gradients import path_point

torch.set_num_threads(1)
SHAPE = (9, 10, 11)


@pytest.fixture
def one_window():
    network, x = Smooth(norm=False).double(), torch.rand(SHAPE, dtype=torch.float64)
    return network, x, Windows(SHAPE, SHAPE, 0.25, "constant")


def explained(network, x, windows, classes=range(4), precision="float64", **options):
    count = network(torch.zeros(1, 1, *windows.window, dtype=x.dtype)).shape[1]
    aims = objectives(predict(network, x, windows, count, precision=precision), windows, classes)
    found = {one.class_index: one for one in attribute(network, x, windows, aims, precision=precision, **options)}
    # Every class of the prediction, or a loop over the answer would say nothing.
    assert set(found) == {aim.class_index for aim in aims if aim.voxels}
    return found


def captums_function(network, clean, index):
    """F_c of a batch [B, 1, i, j, k], with M_c of the clean input."""
    fixed = network(clean[None, None])[0].detach()

    def forward(batch):
        return torch.stack([aggregated(logits, index, "sum", fixed) for logits in network(batch)])

    return forward


def test_integrated_gradients_agree_with_captums(one_window):
    network, x, _ = one_window
    for index, one in explained(*one_window, method="integrated-gradients", samples=7, path="uniform").items():
        theirs = captum.attr.IntegratedGradients(captums_function(network, x, index)).attribute(
            x[None, None], baselines=torch.zeros_like(x)[None, None], n_steps=7, method="riemann_middle"
        )
        # Captum rounds its step sizes to single precision.
        assert np.allclose(one.full(SHAPE), theirs[0, 0].detach().numpy(), rtol=1e-6, atol=1e-9)


def test_smoothgrad_agrees_with_captums_noise_tunnel_given_the_same_noise(one_window, monkeypatch):
    network, x, _ = one_window
    drawn = []
    original = torch.randn

    def noted(*arguments, **options):
        drawn.append(original(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn", noted)
    found = explained(*one_window, method="smoothgrad", samples=5, sigma=0.2, seed=3)
    monkeypatch.undo()
    assert len(drawn) == 5
    spread = 0.2 * float(x.max() - x.min())
    noises = iter([spread * noise[0].double() for noise in drawn] * len(found))
    # Captum draws with torch.normal, one sample at a time; it is handed the noise that ours drew.
    monkeypatch.setattr(torch, "normal", lambda mean, deviation: next(noises)[None, None])
    for index, one in found.items():
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(captums_function(network, x, index)))
        theirs = tunnel.attribute(x[None, None], nt_type="smoothgrad", nt_samples=5, nt_samples_batch_size=1,
                                  stdevs=spread, abs=False)  # fmt: skip
        assert np.allclose(one.full(SHAPE), theirs[0, 0].detach().numpy(), rtol=1e-9, atol=1e-12)


def test_vanilla_gradient_agrees_with_captums_saliency(one_window):
    network, x, _ = one_window
    for index, one in explained(*one_window, method="gradient").items():
        theirs = captum.attr.Saliency(captums_function(network, x, index)).attribute(x[None, None], abs=False)
        assert np.allclose(one.full(SHAPE), theirs[0, 0].detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", ["graded", "uniform"])
def test_integrated_gradients_are_complete_over_many_windows(path):
    # Without normalisation layers: near air they make F_c jump, and the sum then needs far more points.
    network, x = Smooth(seed=4, norm=False).double(), torch.rand((18, 14, 10), dtype=torch.float64)
    windows = Windows((18, 14, 10), (10, 10, 10), 0.5, "gaussian")
    assert len(windows) == 6
    logits = {at: stitched_logits(network, volume, windows, 4, precision="float64")
              for at, volume in (("scan", x), ("air", torch.zeros_like(x)))}  # fmt: skip
    found = explained(network, x, windows, method="integrated-gradients", samples=100, path=path)
    assert len(found) >= 3
    for index, one in found.items():
        change = float(
            aggregated(logits["scan"], index, "sum") - aggregated(logits["air"], index, "sum", logits["scan"])
        )
        assert one.values.sum() == pytest.approx(change, rel=0.02)
        assert one.value - one.baseline_value == pytest.approx(change, rel=1e-9)
        assert one.completeness_gap < 0.02


def test_the_graded_path_meets_completeness_where_normalisation_bends_the_network():
    network, x = Smooth(seed=4).double(), torch.rand((10, 10, 10), dtype=torch.float64)
    windows = Windows((10, 10, 10), (10, 10, 10), 0.25, "constant")
    gaps = {
        path: max(one.completeness_gap for one in explained(
            network, x, windows, method="integrated-gradients", samples=100, path=path).values())
        for path in ("graded", "uniform")
    }  # fmt: skip
    assert gaps["graded"] < 0.01 < gaps["uniform"]


def test_points_and_weights_of_a_path_integrate_polynomials():
    for path in ("graded", "uniform"):
        points = [path_point(n, 400, path) for n in range(400)]
        for power in range(4):
            assert np.mean([weight * a**power for a, weight in points]) == pytest.approx(1 / (power + 1), rel=1e-4)


def test_the_published_path_takes_both_ends_and_is_captums_mean_of_gradients(one_window):
    network, x, _ = one_window
    found = explained(*one_window, method="integrated-gradients", samples=5, path="ends")
    for index, one in found.items():
        total = torch.zeros_like(x, dtype=torch.float64)
        for a in np.linspace(0.0, 1.0, 5):
            at = (a * x.double()).requires_grad_(True)
            total += torch.autograd.grad(captums_function(network, x, index)(at[None, None]).sum(), at)[0] / 5
        assert np.allclose(one.full(SHAPE), (x.double() * total).numpy(), rtol=1e-7, atol=1e-10)


def test_the_completeness_gap_shrinks_with_the_points():
    network, x = Smooth(seed=4, norm=False).double(), torch.rand((12, 12, 12), dtype=torch.float64)
    windows = Windows((12, 12, 12), (10, 10, 10), 0.5, "gaussian")
    gaps = [
        max(
            one.completeness_gap
            for one in explained(network, x, windows, method="integrated-gradients", samples=n).values()
        )
        for n in (4, 64)
    ]
    assert gaps[1] < gaps[0] / 10


def test_the_seed_decides_the_noise(one_window):
    first, again, other = (explained(*one_window, method="smoothgrad", samples=2, seed=seed) for seed in (1, 1, 2))
    for index, one in first.items():
        assert np.array_equal(one.values, again[index].values)
        assert not np.allclose(one.values, other[index].values, rtol=1e-3)


def test_more_samples_contain_fewer(one_window):
    # Sample n has its own seed, so the mean of two is the mean of the first and one more.
    ones, twos, threes = (explained(*one_window, method="smoothgrad", samples=n, seed=1) for n in (1, 2, 3))
    second = {index: 2 * twos[index].values - one.values for index, one in ones.items()}
    third = {index: 3 * threes[index].values - 2 * twos[index].values for index in ones}
    assert not np.allclose(second[1], third[1], rtol=1e-3)
    assert np.allclose((ones[1].values + second[1] + third[1]) / 3, threes[1].values)


def test_smoothgrad_without_noise_is_the_gradient(one_window):
    quiet = explained(*one_window, method="smoothgrad", samples=2, sigma=0.0)
    plain = explained(*one_window, method="gradient")
    assert all(np.allclose(quiet[index].values, one.values, rtol=1e-12) for index, one in plain.items())


def test_an_attribution_that_is_not_a_number_is_refused(one_window):
    _, x, windows = one_window

    class Broken(torch.nn.Module):
        def forward(self, volume):
            logits = torch.cat([volume, 2 * volume], dim=1)
            # The value is fine, its slope is not: sqrt has an infinite one at 0, the square under it none.
            return logits + torch.sqrt((volume - volume.detach()) ** 2) if volume.requires_grad else logits

    with pytest.raises(Agg2ExpError, match="values that are not numbers"):
        explained(Broken(), x, windows, [1], method="gradient")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "unknown method 'magic': known names: "),
        ({"method": "smoothgrad", "samples": 0}, "samples"),
        ({"method": "integrated-gradients", "path": "winding"}, "unknown path 'winding': use graded, uniform, ends"),
        ({"method": "smoothgrad", "sigma": -0.1}, "sigma"),
        ({"method": "gradient", "batch_size": 0}, "batch size"),
    ],
)
def test_settings_out_of_range_are_refused(one_window, options, words):
    with pytest.raises(InputError, match=words):
        explained(*one_window, **options)
