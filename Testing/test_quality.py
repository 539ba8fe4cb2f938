"""The four measures against quantus where it is installed, against their definitions, and in cases with known answers."""

import numpy as np
import pytest
import torch
from attributions import attribute, predict, stitched_of

from Agg2ExpLib.case.objective import objectives
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.masking import LinearValues
from Agg2ExpLib.quality import (
    bootstrap,
    complexity,
    faithfulness,
    movement,
    noisy_copies,
    normalised,
    random_subsets,
    randomised_network,
    removal_effects,
    sensitivity,
    similarity,
    subset_sums,
)

torch.set_num_threads(1)
SHAPE = (18, 14, 16)


class Linear(torch.nn.Module):
    """Logits linear in the scan, of a wide neighbourhood."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.mix = torch.nn.Conv3d(1, 3, 5, padding=2)
        self.calls = 0
        self.requires_grad_(False)

    def forward(self, x):
        self.calls += len(x)
        return self.mix(x)


class Linearly:
    """A scan explained by the gradient times the scan, which for a linear network says it all."""

    def __init__(self, lowest=0.0):
        torch.manual_seed(0)
        self.network, self.x = Linear().double(), lowest + (1 - lowest) * torch.rand(SHAPE, dtype=torch.float64)
        self.windows = Windows(SHAPE, (10, 10, 10), 0.25, "gaussian")
        found = predict(self.network, self.x, self.windows, 3, precision="float64")
        self.aims = [aim for aim in objectives(found, self.windows, range(3)) if aim.voxels]
        self.values = LinearValues(stitched_of(self.network, self.x, self.windows, precision="float64"), self.aims)

    def subsets(self):
        return random_subsets(self.x.numel(), 300, 60, seed=1)

    def gradients(self):
        found = attribute(self.network, self.x, self.windows, self.aims, method="gradient", precision="float64")
        return [one.full(SHAPE) for one in found]


@pytest.fixture(scope="module")
def linear():
    case = Linearly()
    case.effects = removal_effects(case.values, case.x[None], case.subsets())
    return case


def test_the_gradient_times_the_scan_of_a_linear_network_is_wholly_faithful(linear):
    times = [normalised(one * linear.x.numpy()) for one in linear.gradients()]
    sums = subset_sums(times, linear.subsets())
    for column in range(len(linear.aims)):
        found = faithfulness(sums[:, column], linear.effects[:, column])
        assert found.value == pytest.approx(1.0, abs=1e-6)
        assert found.low == pytest.approx(1.0, abs=1e-6)


def test_the_bare_gradient_of_a_linear_network_is_nearly_as_faithful_where_the_scan_is_even():
    case = Linearly(lowest=0.9)
    effects = removal_effects(case.values, case.x[None], case.subsets())
    sums = subset_sums(case.gradients(), case.subsets())
    assert min(faithfulness(sums[:, c], effects[:, c]).value for c in range(len(case.aims))) > 0.98


def test_a_random_attribution_is_not_faithful(linear):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        sums = subset_sums([rng.normal(size=SHAPE)], linear.subsets())[:, 0]
        found += [faithfulness(sums, linear.effects[:, c]) for c in range(len(linear.aims))]
    assert abs(np.mean([one.value for one in found])) < 0.08
    assert np.mean([one.low < 0 < one.high for one in found]) > 0.8


def test_perturbed_predictions_are_made_once_for_all_classes(linear):
    before = linear.network.calls
    removal_effects(linear.values, linear.x[None], random_subsets(linear.x.numel(), 300, 5, seed=1))
    assert linear.network.calls - before == 6 * len(linear.windows)


def test_effects_are_what_the_undivided_prediction_loses(linear):
    from small_networks import aggregated, undivided

    subset = next(iter(linear.subsets()))
    gone = linear.x.clone().reshape(-1)
    gone[subset] = 0
    clean, changed = (
        undivided(linear.network, x, (10, 10, 10), 0.25, "gaussian") for x in (linear.x, gone.reshape(SHAPE))
    )
    for column, aim in enumerate(linear.aims):
        lost = aggregated(clean, aim.class_index, "sum") - aggregated(changed, aim.class_index, "sum", clean)
        assert linear.effects[0, column] == pytest.approx(float(lost), rel=1e-6)


def test_subsets_are_the_same_for_everyone_and_without_repeats():
    first, again = (list(random_subsets(1000, 40, 3, seed=5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(len(np.unique(one)) == 40 and one.max() < 1000 for one in first)
    assert not np.array_equal(first[0], first[1])


def test_a_one_hot_attribution_is_as_simple_as_can_be():
    values = np.zeros((4, 5, 6))
    values[1, 2, 3] = -7.0
    assert complexity(normalised(values)).value == 1 / 120
    assert complexity(normalised(np.ones((4, 5, 6)))).value == 1.0


def test_a_constant_explainer_is_not_sensitive():
    values = normalised(np.random.default_rng(0).normal(size=(4, 5, 6)))
    found = sensitivity([movement(values, values, 3.0)] * 12)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_three_copies_have_no_interval():
    found = sensitivity([0.1, 0.2, 0.3])
    assert (found.value, np.isnan(found.low), np.isnan(found.high)) == (pytest.approx(0.2), True, True)


def test_sensitivity_is_the_mean_movement_relative_to_the_scan():
    assert movement(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 2.0) == pytest.approx(np.sqrt(2) / 2)
    assert sensitivity([0.1, 0.2, 0.6]).value == pytest.approx(0.3)


def test_noise_is_uniform_within_its_bound_and_follows_its_seed():
    x = torch.full((20, 20, 20), 0.5)
    copies = list(noisy_copies(x, 3, 0.1, seed=4))
    assert len(copies) == 3
    for copy in copies:
        noise = (copy - x).numpy()
        assert np.abs(noise).max() <= 0.1 + 1e-6
        assert noise.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.03)
    assert torch.equal(copies[1], list(noisy_copies(x, 2, 0.1, seed=4))[1])
    assert not torch.equal(copies[0], copies[1])


def test_the_bootstrap_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(60):
        data = rng.normal(size=40)
        found = bootstrap(lambda rows, data=data: data[rows].mean(axis=-1), 40, seed)
        held += found.low <= 0.0 <= found.high
    assert held >= 51


class Classifier(torch.nn.Module):
    """Two outputs, linear in an image, with a bend: what quantus measures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.mix = torch.nn.Linear(144, 2)

    def forward(self, x):
        return torch.tanh(self.mix(x.flatten(1).float()))


@pytest.fixture(scope="module")
def toy():
    """An image, a network, an attribution and the subsets and noise that both sides get."""
    quantus = pytest.importorskip("quantus", exc_type=ImportError)
    rng = np.random.default_rng(0)
    image, values = rng.random((1, 1, 12, 12)).astype(np.float32), normalised(rng.normal(size=(1, 1, 12, 12)))
    return quantus, Classifier().eval(), image, values


QUIET = {"normalise": False, "disable_warnings": True, "display_progressbar": False}


def test_faithfulness_agrees_with_quantus(toy, monkeypatch):
    quantus, network, image, values = toy
    subsets = list(random_subsets(144, 30, 25, seed=3))
    effects = []
    for subset in subsets:
        changed = image.copy().reshape(-1)
        changed[subset] = 0
        first, second = network(torch.from_numpy(np.stack([image.reshape(-1), changed]))).detach()
        effects.append(float(first[1] - second[1]))
    ours = faithfulness(subset_sums([values], iter(subsets))[:, 0], np.array(effects))
    handed = iter(subsets)
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(handed))
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=25, subset_size=30, abs=False, perturb_baseline=0.0, return_aggregate=False, **QUIET
    )
    theirs = metric(
        model=network, x_batch=image, y_batch=np.array([1]), a_batch=values[:, 0], softmax=False, channel_first=True
    )
    assert ours.value == pytest.approx(theirs[0], abs=1e-4)


def test_sensitivity_agrees_with_quantus(toy):
    quantus, network, image, _ = toy
    copies = [copy.numpy() for copy in noisy_copies(torch.from_numpy(image), 3, 0.1, seed=1)]

    def explain(model, inputs, targets, **_):
        x = torch.from_numpy(np.asarray(inputs, dtype=np.float32)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
        return normalised(gradient.numpy())

    clean, norm = explain(network, image, None), float(np.linalg.norm(image))
    ours = sensitivity([movement(clean, explain(network, copy, None), norm) for copy in copies])
    handed = iter(copies)
    metric = quantus.AvgSensitivity(
        nr_samples=3,
        abs=False,
        perturb_func=lambda arr, indices, **_: next(handed).reshape(arr.shape),
        # Relative to the scan, as the paper has it; quantus divides by the attribution's norm by default.
        norm_denominator=lambda a: np.full(len(a), norm),
        return_nan_when_prediction_changes=False,
        **QUIET,
    )
    theirs = metric(
        model=network, x_batch=image, y_batch=np.array([1]), a_batch=clean, explain_func=explain, channel_first=True
    )
    assert ours.value == pytest.approx(theirs[0], rel=1e-4)


def test_complexity_agrees_with_quantus(toy):
    quantus, network, image, values = toy
    metric = quantus.EffectiveComplexity(eps=0.1, abs=True, **QUIET)
    theirs = metric(model=network, x_batch=image, y_batch=np.array([0]), a_batch=values[:, 0])
    assert complexity(values).value == theirs[0] / values.size


def test_faithfulness_is_scipys_pearson_correlation():
    from scipy.stats import pearsonr

    first, second = np.random.default_rng(0).normal(size=(2, 50))
    assert faithfulness(first, second).value == pytest.approx(pearsonr(first, second).statistic)


def test_similarity_is_scipys_spearman_correlation_of_magnitudes():
    from scipy.stats import spearmanr

    first, second = np.random.default_rng(0).normal(size=(2, 6, 7, 8))
    second += 0.5 * first
    expected = spearmanr(np.abs(first).ravel(), np.abs(second).ravel()).statistic
    assert similarity(first, second) == pytest.approx(expected)
    assert similarity(first, -2 * first) == pytest.approx(1.0)


def test_random_weights_keep_their_scale_and_change_everything_else():
    network = Linear()
    other, again = (randomised_network(network, seed=1) for _ in range(2))
    for old, new, same in zip(network.parameters(), other.parameters(), again.parameters(), strict=True):
        assert torch.equal(new, same)
        assert not torch.allclose(old, new)
        assert 0.3 < float(new.std() / old.std()) < 3
    assert abs(similarity(network.mix.weight.numpy(), other.mix.weight.numpy())) < 0.3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: normalised(np.zeros((2, 2))), "is 0 everywhere, so its quality cannot be measured"),
        (lambda: normalised(np.array([1.0, np.nan])), "not finite"),
        (lambda: list(random_subsets(100, 100, 3, 0)), "subsets of 100 voxels do not fit a scan of 100"),
        (lambda: list(random_subsets(100, 10, 1, 0)), "give at least 2 with --subsets"),
        (lambda: list(noisy_copies(torch.zeros(2, 2, 2), 0, 0.1, 0)), "at least 1 noisy copy"),
        (lambda: movement(np.ones(2), np.ones(2), 0.0), "the scan is 0 everywhere"),
    ],
)
def test_what_cannot_be_measured_is_said(call, words):
    with pytest.raises(InputError, match=words):
        call()
