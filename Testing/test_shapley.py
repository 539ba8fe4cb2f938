"""Shapley values of games that are known in closed form, and every estimator against enumeration."""

import itertools
import math

import numpy as np
import pytest

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.shapley import (
    ESTIMATORS,
    Design,
    ShapleyValues,
    exact,
    kernel_sizes,
    refuse_undecided,
    sample_coalitions,
    shapley_values,
    solve,
)

SAMPLED = [name for name in ESTIMATORS if name != "exact"]


def available(estimator):
    if estimator == "shap":
        pytest.importorskip("numba")
        from Agg2ExpLib.methods.games.shap_import import import_shap

        try:
            import_shap()
        except InputError as error:
            pytest.skip(str(error))
    if estimator == "captum":
        pytest.importorskip("captum")


@pytest.fixture
def curved():
    """A game of 10 players and 3 outputs with interactions of every order."""
    rng = np.random.default_rng(4)
    mix, out = rng.normal(size=(12, 10)) * (rng.random((12, 10)) < 0.4), rng.normal(size=(12, 3))
    slope = rng.normal(size=(10, 3))

    def game(kept):
        game.played += len(kept)
        return np.tanh(kept @ mix.T) @ out + kept @ slope

    game.played = 0
    return game


def by_definition(game, players):
    """Mean gain over all orders of a few players."""
    total = 0
    for order in itertools.permutations(range(players)):
        kept = np.zeros((players + 1, players), dtype=bool)
        for step, player in enumerate(order, start=1):
            kept[step:, player] = True
        total = total + np.diff(game(kept), axis=0)[np.argsort(order)]
    return total / math.factorial(players)


def test_enumeration_equals_the_mean_over_all_orders(curved):
    def small(kept):
        return curved(np.pad(kept, ((0, 0), (0, 5))))

    assert np.allclose(exact(small, 5).values, by_definition(small, 5))


def test_a_game_of_two_needs_both_for_anything():
    found = exact(lambda kept: kept.all(axis=1, keepdims=True) * 6.0, 3)
    assert np.allclose(found.values, 2.0)


@pytest.mark.parametrize("estimator", SAMPLED)
def test_an_additive_game_is_solved_from_few_coalitions_without_error(estimator):
    available(estimator)
    worth = np.random.default_rng(1).normal(size=(20, 2))
    found = shapley_values(lambda kept: kept @ worth + 5.0, 20, 90, estimator=estimator)
    assert np.allclose(found.values, worth, atol=1e-4)
    assert found.errors.max() < 1e-3
    assert np.allclose(found.empty, 5.0)


@pytest.mark.parametrize("estimator", SAMPLED)
@pytest.mark.parametrize("samples", [60, 300])
def test_values_sum_to_what_all_players_add(curved, estimator, samples):
    available(estimator)
    found = shapley_values(curved, 10, samples, estimator=estimator, seed=2)
    assert np.allclose(found.values.sum(axis=0), found.full - found.empty, rtol=1e-6)
    assert np.allclose(found.full, curved(np.ones((1, 10), bool))[0])


@pytest.mark.parametrize("estimator", SAMPLED)
def test_sampled_values_agree_with_enumeration_within_their_standard_errors(curved, estimator):
    available(estimator)
    truth = exact(curved, 10).values
    scores = []
    for seed in range(6):
        found = shapley_values(curved, 10, 120, estimator=estimator, seed=seed)
        assert (found.errors > 0).all()
        scores.append((found.values - truth) / found.errors)
    # Normal scores would have a root mean square of 1; jackknife errors are a little too large rather than too small.
    assert 0.2 < np.sqrt(np.mean(np.square(scores))) < 1.3
    assert np.mean(np.abs(scores) < 2) > 0.9


@pytest.mark.parametrize("estimator", SAMPLED)
def test_the_error_falls_as_samples_grow(curved, estimator):
    available(estimator)
    truth = exact(curved, 10).values

    def error(samples):
        runs = [shapley_values(curved, 10, samples, estimator=estimator, seed=seed).values for seed in range(4)]
        return np.mean([np.abs(values - truth).mean() for values in runs])

    errors = [error(samples) for samples in (30, 120, 480)]
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2]


def test_all_coalitions_are_played_when_that_is_cheaper(curved):
    found = shapley_values(curved, 10, 2**10)
    assert curved.played == 2**10
    assert np.array_equal(found.errors, np.zeros((10, 3)))
    assert np.allclose(found.values, exact(curved, 10).values)


def test_all_outputs_come_from_the_same_coalitions(curved):
    together = shapley_values(curved, 10, 100, seed=3)
    assert curved.played == 102
    for output in range(3):
        alone = shapley_values(lambda kept, output=output: curved(kept)[:, [output]], 10, 100, seed=3)
        assert np.allclose(alone.values[:, 0], together.values[:, output])


def test_captums_own_regression_gives_the_same_values(curved):
    torch, attr = pytest.importorskip("torch"), pytest.importorskip("captum.attr")
    pytest.importorskip("sklearn")
    ours = shapley_values(curved, 10, 150, estimator="captum", seed=5)
    kernel = attr.KernelShap(lambda kept: torch.from_numpy(curved(kept.numpy() > 0.5)[:, 1]))
    torch.manual_seed(5)
    theirs = kernel.attribute(torch.ones(1, 10), n_samples=152)[0]
    # Captum weighs the two ends a million times, in single precision; here they hold exactly.
    assert np.allclose(ours.values[:, 1], theirs.numpy(), atol=2e-3)


def test_shaps_own_regression_gives_the_same_values(curved):
    available("shap")
    found = shapley_values(curved, 10, 150, estimator="shap", seed=5)
    penalised = shapley_values(curved, 10, 150, estimator="shap", seed=5, ridge=1e-9)
    assert np.allclose(found.values, penalised.values, atol=1e-6)


def test_a_ridge_penalty_shrinks_and_keeps_the_sum(curved):
    plain, strong = (shapley_values(curved, 10, 60, ridge=ridge, seed=1) for ridge in (0.0, 100.0))
    assert np.allclose(strong.values.sum(axis=0), plain.values.sum(axis=0))
    spread = [found.values.std(axis=0).max() for found in (plain, strong)]
    assert spread[1] < spread[0] / 2


def test_coalitions_follow_the_shapley_kernel_and_their_seed():
    drawn = sample_coalitions(14, 4000, seed=0)
    sizes = np.bincount(drawn.masks.sum(axis=1), weights=drawn.weights, minlength=15)[1:14]
    assert np.abs(sizes / sizes.sum() - kernel_sizes(14)).max() < 0.02
    again, other = sample_coalitions(14, 4000, seed=0), sample_coalitions(14, 4000, seed=1)
    assert np.array_equal(drawn.masks, again.masks)
    assert not np.array_equal(drawn.masks[:50], other.masks[:50])


def test_pairs_are_complements_and_nothing_is_played_twice():
    drawn = sample_coalitions(12, 200, seed=0)
    assert np.array_equal(drawn.masks[0::2], ~drawn.masks[1::2])
    assert len(np.unique(drawn.masks, axis=0)) == len(drawn.masks) <= 200


def test_shap_with_too_few_coalitions_is_refused_and_never_answers_1e15():
    available("shap")
    worth = np.random.default_rng(0).normal(size=(17, 1))
    mix = np.random.default_rng(1).normal(size=(6, 17))

    def game(kept):
        return kept @ worth + np.tanh(kept @ mix.T).sum(axis=1, keepdims=True)

    refused = 0
    for seed in range(6):
        try:
            found = shapley_values(game, 17, 34, estimator="shap", seed=seed)
            assert np.abs(found.values).max() < 30
        except InputError as error:
            refused += 1
            assert "supervoxels" in str(error) and "or use --estimator regression" in str(error)
    assert refused
    enough = shapley_values(game, 17, 300, estimator="shap", seed=0)
    assert np.abs(enough.values - shapley_values(game, 17, 3000, seed=1).values).max() < 0.3


def test_coalitions_that_leave_values_undecided_are_refused():
    # The first two players always come together.
    masks = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 0, 1]], dtype=bool)
    with pytest.raises(InputError, match=r"2 independent equations for 3 unknowns\); give 12 --samples or more"):
        refuse_undecided(Design(masks, np.ones(5), np.arange(5)), 0.0, "regression")
    refuse_undecided(Design(masks, np.ones(5), np.arange(5)), 0.1, "regression")


@pytest.mark.parametrize("values", [[1e15, 1.0 - 1e15, 0.0], [7.0, -6.0, 0.0], [0.4, 0.4, 0.4], [np.nan, 0.0, 1.0]])
def test_values_that_no_such_game_has_are_refused(values, monkeypatch):
    from Agg2ExpLib.methods.games import shap_estimators

    def wrong(game, players, samples, ridge, seed):
        answers = game(np.array([[True] * players, [False] * players]))
        return ShapleyValues(np.array(values)[:, None], np.ones((3, 1)), answers[0], answers[1], 2)

    monkeypatch.setattr(shap_estimators, "by_captum", wrong)
    with pytest.raises(InputError, match="estimator 'captum' answers values of"):
        shapley_values(lambda kept: kept.mean(axis=1, keepdims=True), 3, 4, estimator="captum")


def test_an_undecided_solution_is_the_shortest_and_keeps_the_sum():
    masks = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    found = solve(masks, np.ones(2), np.array([[3.0], [1.0]]), np.array([4.0]), np.array([0.0]), 0.0)
    assert np.allclose(found.ravel(), [1.5, 1.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("players", "samples", "estimator", "words"),
    [
        (20, 20, "regression", "20 samples are too few for 20 supervoxels: give at least 21 with --samples"),
        (13, 99, "exact", r"need 2\^13 coalitions; use at most 12 supervoxels"),
        (5, 99, "magic", "unknown estimator 'magic': use gaussian-process, regression, shap, captum, exact"),
    ],
)
def test_what_cannot_be_solved_is_said(players, samples, estimator, words):
    with pytest.raises(InputError, match=words):
        shapley_values(lambda kept: kept.sum(axis=1, keepdims=True), players, samples, estimator=estimator)
