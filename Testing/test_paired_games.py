"""The Gaussian process over pairs of coalitions: closed forms, error at equal passes, honest standard errors, enough and no more."""

import itertools
import math

import numpy as np
import pytest
from small_networks import Smooth, write_case

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import KernelSHAP
from Agg2ExpLib.methods.games import paired
from Agg2ExpLib.methods.games.enough import Games, shares
from Agg2ExpLib.methods.games.paired import PairedGame, all_pairs, draw_pairs, exact_interactions
from Agg2ExpLib.methods.games.shapley import exact, shapley_values
from Agg2ExpLib.progress import Progress


def coalitions(players):
    return ((np.arange(2**players)[:, None] >> np.arange(players)) & 1).astype(bool)


def chained(players, seed):
    """A game like an image: what a place adds depends on its neighbours, and only the middle counts."""
    rng = np.random.default_rng(seed)
    first, second, worth = rng.normal(size=(3, players)), rng.normal(size=(3, players)), rng.normal(size=players)

    def game(kept):
        x = kept * worth
        for weights in (first, second):
            around = np.stack([np.roll(x, 1, axis=1), x, np.roll(x, -1, axis=1)])
            x = np.tanh((weights[:, None] * around).sum(axis=0))
        return x[:, players // 3 : players // 2].sum(axis=1, keepdims=True)

    return game


def mixed(players, seed):
    """A game in which everything acts with everything."""
    rng = np.random.default_rng(seed)
    inner, outer = rng.normal(size=(players, 20)) / 2, rng.normal(size=(20, 1))
    return lambda kept: np.maximum(kept @ inner - 0.5, 0) @ outer


def test_every_pair_is_drawn_once_and_its_complement_never():
    halves = np.array(list(draw_pairs(6, 1)))
    assert len(halves) == all_pairs(6) == 31
    assert len(np.unique(np.concatenate([halves, ~halves]), axis=0)) == 2**6 - 2
    again = np.array(list(itertools.islice(draw_pairs(6, 1), 7)))
    assert np.array_equal(again, halves[:7])


def test_priors_are_sums_over_all_sets_of_players():
    scales = np.random.default_rng(0).uniform(0.1, 0.6, size=5)
    sets = coalitions(5)
    z = 2.0 * sets - 1
    products = np.array([[row[one].prod() for one in sets] for row in z])
    prior = np.where(sets, np.sinh(scales), np.cosh(scales)).prod(axis=1) * np.exp(-scales.sum())
    odd = sets.sum(axis=1) % 2 == 1
    for kernel, parity in zip(paired._kernels(z, scales), (odd, ~odd), strict=True):
        assert np.allclose(kernel, (products * prior * parity) @ products.T)
    # What each product of players is worth to each value, by enumeration.
    shapley = exact(lambda kept: products[kept @ (1 << np.arange(5))], 5).values
    for towards, worth, parity in (
        (paired._towards_players, shapley, odd),
        (paired._towards_pairs, exact_interactions(products), ~odd),
    ):
        covariance, variance = towards(z, scales)
        assert np.allclose(covariance, (products * prior * parity) @ worth.T)
        assert np.allclose(variance, worth**2 @ (prior * parity))


@pytest.mark.parametrize(("kind", "gain"), [(chained, 2.0), (mixed, 0.7)])
def test_the_error_is_far_below_a_regressions_where_few_act_together_and_near_it_where_all_do(kind, gain):
    errors = {}
    for number, estimator in itertools.product(range(4), ("gaussian-process", "regression")):
        game = kind(11, number)
        truth = exact(game, 11).values
        found = shapley_values(game, 11, 60, estimator=estimator, seed=number)
        errors.setdefault(estimator, []).append(np.abs(found.values - truth).mean() / np.abs(truth).max())
    assert np.mean(errors["regression"]) > gain * np.mean(errors["gaussian-process"])


@pytest.mark.parametrize("pairs", [8, 24, 60])
def test_standard_errors_hold_from_the_first_round_on(pairs):
    inside = []
    for kind, number in itertools.product((chained, mixed), range(3)):
        game = kind(11, 10 + number)
        one = PairedGame(game, 11, number)
        one.play(pairs)
        values, errors = one.shapley()
        inside.append(np.abs(values - exact(game, 11).values) < 1.96 * errors)
    assert np.mean(inside) > 0.92


def test_the_standard_error_where_play_stops_holds():
    inside, played = [], []
    for kind, number in itertools.product((chained, mixed), range(4)):
        game = kind(11, 30 + number)
        games = Games({0: PairedGame(game, 11, number)}, {0: np.arange(11)}, 11, 1000)
        found = games.play(0.05, Progress())
        assert shares(found).max() <= 0.05
        played.append(games.coalitions)
        inside.append(np.abs(found.values - exact(game, 11).values) < 1.96 * found.errors)
    assert np.mean(inside) > 0.93
    assert 28 <= min(played) < max(played) < 500


def test_coalitions_go_to_the_games_that_matter_and_the_most_is_kept():
    told = []
    games = {0: PairedGame(mixed(11, 0), 11, 0), 1: PairedGame(lambda kept: 1e-4 * mixed(11, 1)(kept), 11, 1)}
    both = Games(games, {0: np.arange(11), 1: np.arange(11)}, 11, 160)
    progress = Progress(told.append)
    progress.stage("attributions", 56)
    found = both.play(0.0, progress)
    assert 150 <= both.coalitions <= 160
    assert games[1].pairs == 13 < games[0].pairs
    assert "of the largest value" in told[-1].detail
    assert np.allclose(found.values.sum(axis=0), found.full - found.empty)


def test_interactions_are_the_mean_gain_of_two_together():
    game = mixed(5, 3)
    table = game(coalitions(5))
    for row, (i, j) in enumerate(zip(*np.triu_indices(5, 1), strict=True)):
        expected, others = 0.0, [player for player in range(5) if player not in (i, j)]
        for size in range(4):
            for chosen in itertools.combinations(others, size):
                code = sum(1 << player for player in chosen)
                one, two = 1 << int(i), 1 << int(j)
                gain = table[code | one | two] - table[code | one] - table[code | two] + table[code]
                expected += math.factorial(3 - size) * math.factorial(size) / math.factorial(4) * gain[0]
        assert exact_interactions(table)[row, 0] == pytest.approx(expected)


def test_sampled_interactions_agree_with_enumeration_within_their_standard_errors():
    inside = []
    for kind, number in itertools.product((chained, mixed), range(3)):
        game = kind(9, 50 + number)
        truth = exact_interactions(game(coalitions(9)))
        one = PairedGame(game, 9, number)
        one.play(50)
        values, errors = one.interactions()
        inside.append(np.abs(values - truth) < 1.96 * errors + 1e-9)
        assert np.abs(values - truth).max() < (0.1 if kind is chained else 0.7) * np.abs(truth).max()
    assert np.mean(inside) > 0.9


def test_interactions_of_a_case_are_those_of_the_game_over_the_scan():
    from test_kernelshap import Case as Stitched

    from Agg2ExpLib.case import Case
    from Agg2ExpLib.interactions import interactions
    from Agg2ExpLib.models import Tiling, from_module
    from Agg2ExpLib.volume import Grid, Volume

    plain = Stitched(Smooth(seed=2), shape=(14, 9, 13), window=(10, 9, 10))
    labels = [f"class {index}" for index in range(plain.classes)]
    model = from_module(
        plain.network, classes=labels, tiling=Tiling((10, 9, 10), 0.25, blending="gaussian"), removed=0.0
    )
    case = Case.open(Volume(plain.x.numpy(), Grid(plain.x.shape, np.eye(4))), model, device="cpu", precision="float64")
    plain.supervoxels = case.divide(KernelSHAP(), None)
    aim = next(aim for aim in plain.aims if aim.voxels)
    found = interactions(case, labels[aim.class_index], KernelSHAP(samples=1024, tolerance=0.0))
    players = len(found.names)
    truth = exact_interactions(plain.game(aim.class_index)(coalitions(players)))[:, 0]
    assert np.allclose(found.values[np.triu_indices(players, 1)], truth, rtol=1e-5, atol=1e-6)
    assert not found.errors.any()
    with pytest.raises(InputError, match="leave both out"):
        interactions(case, labels[1], KernelSHAP(estimator="regression"))


def test_the_command_writes_every_pair(tmp_path, capsys):
    case, model = write_case(tmp_path)
    out, pairs = str(tmp_path / "out"), str(tmp_path / "pairs.csv")
    explained = ["explain", str(case), "--model", str(model), "--method", "gradient", "--classes", "one", "--out", out]
    assert main([*explained, "--progress", "none"]) == 0
    assert main(["interactions", out, "--class", "one", "--out", pairs, "--progress", "none"]) == 0
    assert "together beyond what each adds alone" in capsys.readouterr().out
    table = np.genfromtxt(pairs, delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert table.dtype.names == ("a", "b", "value", "standard_error")
    assert len(table) == 3
    assert main(["interactions", out, "--class", "nose"]) == 2
