"""Shapley values of a game with vector values: by enumeration, or from sampled coalitions.

A *game* is a function from coalitions, bool (n, p), to values, float (n, outputs). All outputs are estimated from the
same coalitions, so that one evaluation serves every class. Standard errors of regressions are delete-group jackknife estimates
over groups of coalitions; pairs stay together. Enumerated values have none.

References
----------
Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017 (the regression).
Covert and Lee, Improving KernelSHAP, AISTATS 2021 (paired coalitions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.paired import MOST_PAIRS, PairedGame, all_pairs

Game = Callable[[np.ndarray], np.ndarray]

#: The estimator of :mod:`Agg2ExpLib.methods.games.paired`.
GAUSSIAN = "gaussian-process"
#: How KernelSHAP estimates -> what it does.
ESTIMATORS: dict[str, str] = {
    GAUSSIAN: "a Gaussian process over pairs of coalitions; stops at the standard error asked for; enumerates small games",
    "regression": "regression over sampled coalitions, in pairs where they suffice; enumerates small games",
    "shap": "shap's KernelExplainer: paired coalitions, small sizes enumerated",
    "captum": "captum's KernelShap, as the paper: unpaired coalitions",
    "exact": "all coalitions, for games of up to 12 supervoxels",
}
#: Largest game whose coalitions are all played.
MOST_EXACT = 12

_GROUPS = 20
#: Coalitions for each player from which on they are drawn in pairs: a pair is one equation for p unknowns, not two.
_PAIRS_FROM = 3
# Singular values below this share of the largest are none.
_INDEPENDENT = 1e-7
# Sums of values are right to this share of the answers' range; an estimate may lie outside of that range by chance, but not so far.
_ROUNDING, _BEYOND = 1e-4, 2.0


@dataclass(frozen=True, eq=False)
class ShapleyValues:
    """Shapley values of one game.

    Attributes
    ----------
    values : ndarray, shape (p, outputs)
        They sum to ``full - empty``.
    errors : ndarray, shape (p, outputs)
        Standard errors; 0 where all coalitions were played.
    full, empty : ndarray, shape (outputs,)
        Value of the game with all players, and with none.
    coalitions : int
        Coalitions asked for, the full and the empty one included.
    """

    values: np.ndarray
    errors: np.ndarray
    full: np.ndarray
    empty: np.ndarray
    coalitions: int


@dataclass(frozen=True, eq=False)
class Design:
    """Coalitions to regress over: masks bool (n, p), weights (n,), and the group (a pair) that each belongs to."""

    masks: np.ndarray
    weights: np.ndarray
    groups: np.ndarray


def shapley_values(
    game: Game, players: int, samples: int, *, estimator: str = "regression", ridge: float = 0.0, seed: int = 0
) -> ShapleyValues:
    """Estimate Shapley values.

    Parameters
    ----------
    game : callable
        Coalitions, bool (n, p), to values (n, outputs).
    players : int
        p, at least 1.
    samples : int
        Coalitions to play, without the full and the empty one. Where all of them are fewer, all are played and the
        values are exact.
    estimator : str
        A key of :data:`ESTIMATORS`.
    ridge : float
        Penalty on the squared values, where the weights of the coalitions sum to their number.
    seed : int
        Of the coalitions.

    Raises
    ------
    InputError
        An unknown estimator, a game too large to enumerate, too few samples for a solution, or a solution that cannot be.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"unknown estimator {estimator!r}: use {', '.join(ESTIMATORS)}")
    if estimator == "exact":
        if players > MOST_EXACT:
            raise InputError(
                f"exact Shapley values of {players} supervoxels need 2^{players} coalitions; "
                f"use at most {MOST_EXACT} supervoxels, or another --estimator"
            )
        return exact(game, players)
    # Two players have two coalitions between them, which decide everything; so it is with one.
    if players <= 2 or (estimator in ("regression", GAUSSIAN) and players <= MOST_EXACT and 2**players - 2 <= samples):
        return exact(game, players)
    if samples <= players:
        raise InputError(
            f"{samples} samples are too few for {players} supervoxels: "
            f"give at least {players + 1} with --samples, or use fewer supervoxels"
        )
    if estimator == GAUSSIAN:
        paired = PairedGame(game, players, seed)
        paired.play(min(samples // 2, MOST_PAIRS))
        return of_pairs(paired)
    played: list[np.ndarray] = []

    def watched(kept: np.ndarray) -> np.ndarray:
        played.append(game(kept))
        return played[-1]

    if estimator == "regression":
        design = sample_coalitions(players, samples, seed)
        refuse_undecided(design, ridge, estimator)
        ends = watched(np.array([[True], [False]]).repeat(players, axis=1))
        found = _regress(design, watched(design.masks), ends[0], ends[1], ridge)
    else:
        from Agg2ExpLib.methods.games import shap_estimators

        run = shap_estimators.by_shap if estimator == "shap" else shap_estimators.by_captum
        found = run(watched, players, samples, ridge, seed)
    _refuse_impossible(found, np.concatenate(played), estimator)
    return found


def of_pairs(game: PairedGame) -> ShapleyValues:
    """Return the Shapley values of a game as far as it is played; exact when that is all of it."""
    if game.whole:
        values, bits = game.table(), 1 << np.arange(game.players)
        return exact(lambda kept: values[kept @ bits], game.players)
    return ShapleyValues(*game.shapley(), game.full, game.empty, 2 * game.pairs + 2)


def refuse_undecided(design: Design, ridge: float, estimator: str) -> None:
    """Refuse coalitions that do not decide every player's value: a solver then answers anything, 1e15 at times.

    Raises
    ------
    InputError
        The regression has fewer independent equations than unknowns, and no ridge penalty that decides.
    """
    players = design.masks.shape[1]
    columns = np.sqrt(design.weights / design.weights.sum())[:, None] * (design.masks @ _zero_sum_basis(players))
    rank = int(np.linalg.matrix_rank(columns, tol=_INDEPENDENT * np.linalg.norm(columns, 2)))
    if ridge <= 0 and rank < players - 1:
        raise InputError(
            f"the {len(design.masks)} coalitions that estimator {estimator!r} drew leave the values of {players} supervoxels "
            f"undecided ({rank} independent equations for {players - 1} unknowns); {_more(players, estimator)}"
        )


def _refuse_impossible(found: ShapleyValues, played: np.ndarray, estimator: str) -> None:
    """Refuse values that no game with such answers has: a value is a mean of gains, and a gain lies within the answers' range."""
    reach = np.ptp(played, axis=0)
    whole = found.full - found.empty
    missed = np.abs(found.values.sum(axis=0) - whole) > _ROUNDING * np.maximum(reach, 1e-300)
    beyond = np.abs(found.values) > _BEYOND * reach + _ROUNDING * np.abs(played).max(axis=0)
    if not np.isfinite(found.values).all() or missed.any() or beyond.any():
        players = len(found.values)
        raise InputError(
            f"estimator {estimator!r} answers values of {np.abs(found.values).max():.2g} for {players} supervoxels, where all that "
            f"the network answered lies within {reach.max():.2g}; {_more(players, estimator)}"
        )


def _more(players: int, estimator: str) -> str:
    """What to do about too few coalitions: pairs give half as many equations."""
    other = "" if estimator == "regression" else ", or use --estimator regression"
    return f"give {_PAIRS_FROM * players} --samples or more, or fewer supervoxels{other}"


def exact(game: Game, players: int) -> ShapleyValues:
    """Play all 2^p coalitions.

    Examples
    --------
    >>> exact(lambda kept: (kept[:, [0]] & kept[:, [1]]) * 6.0, 2).values.ravel().tolist()
    [3.0, 3.0]
    """
    codes = np.arange(2**players)
    masks = ((codes[:, None] >> np.arange(players)) & 1).astype(bool)
    values = game(masks)
    sizes = masks.sum(axis=1)
    weight = np.array([1.0 / (players * math.comb(players - 1, size)) for size in range(players)])
    result = np.empty((players, values.shape[1]))
    for player in range(players):
        without = codes[~masks[:, player]]
        gain = values[without | (1 << player)] - values[without]
        result[player] = weight[sizes[without]] @ gain
    return ShapleyValues(result, np.zeros_like(result), values[-1], values[0], len(codes))


def kernel_sizes(players: int) -> np.ndarray:
    """Return the Shapley kernel's share of coalitions of each size 1 to p - 1."""
    size = np.arange(1, players)
    share: np.ndarray = 1.0 / (size * (players - size))
    return share / share.sum()


def sample_coalitions(players: int, samples: int, seed: int) -> Design:
    """Draw coalitions by the Shapley kernel; a coalition drawn twice counts twice and is played once.

    Where they suffice for it, a coalition comes with its complement, which halves the error or better.
    """
    if players <= 30 and 2**players - 2 <= samples:
        return _all_coalitions(players)
    rng = np.random.default_rng(seed)
    paired = samples >= _PAIRS_FROM * players
    sizes = rng.choice(np.arange(1, players), size=4 * samples, p=kernel_sizes(players))
    found: dict[bytes, int] = {}
    masks: list[np.ndarray] = []
    weights: list[float] = []
    for size in sizes:
        if len(masks) >= samples - int(paired):
            break
        mask = np.zeros(players, dtype=bool)
        mask[rng.permutation(players)[:size]] = True
        for one in (mask, ~mask) if paired else (mask,):
            key = one.tobytes()
            if key not in found:
                found[key] = len(masks)
                masks.append(one)
                weights.append(0.0)
            weights[found[key]] += 1.0
    groups = np.arange(len(masks)) // 2 if paired else np.arange(len(masks))
    return Design(np.array(masks), np.array(weights), groups)


def _all_coalitions(players: int) -> Design:
    codes = np.arange(1, 2**players - 1)
    masks = ((codes[:, None] >> np.arange(players)) & 1).astype(bool)
    sizes = masks.sum(axis=1)
    weights = np.array([kernel_sizes(players)[size - 1] / math.comb(players, size) for size in sizes])
    return Design(masks, weights, np.zeros(len(codes), dtype=int))


def _regress(design: Design, values: np.ndarray, full: np.ndarray, empty: np.ndarray, ridge: float) -> ShapleyValues:
    """Solve, and estimate standard errors by leaving out one group of coalitions after the other."""
    solved = solve(design.masks, design.weights, values, full, empty, ridge)
    return ShapleyValues(
        solved, standard_errors(design, values, full, empty, ridge), full, empty, len(design.masks) + 2
    )


def standard_errors(
    design: Design, values: np.ndarray, full: np.ndarray, empty: np.ndarray, ridge: float
) -> np.ndarray:
    """Return delete-group jackknife standard errors of :func:`solve`; 0 when the design is the whole game."""
    pairs = np.unique(design.groups)
    count = min(_GROUPS, len(pairs))
    shape = (design.masks.shape[1], values.shape[1])
    if count < 2:
        return np.zeros(shape)
    # Groups are dealt out in turn, so that each holds early and late draws.
    dealt = np.searchsorted(pairs, design.groups) % count
    parts = np.empty((count, *shape))
    for number in range(count):
        left = dealt != number
        parts[number] = solve(design.masks[left], design.weights[left], values[left], full, empty, ridge)
    spread: np.ndarray = ((parts - parts.mean(axis=0)) ** 2).sum(axis=0) * (count - 1) / count
    return np.sqrt(spread)


def solve(
    masks: np.ndarray, weights: np.ndarray, values: np.ndarray, full: np.ndarray, empty: np.ndarray, ridge: float
) -> np.ndarray:
    """Return the values (p, outputs) that fit best, and sum to ``full - empty`` exactly.

    Minimises ``sum_n w_n (v_n - empty - sum_i z_ni phi_i)^2 + ridge * sum_i phi_i^2`` under that constraint, with
    weights scaled to sum to n. Where that leaves them undecided, they are the shortest solution.
    """
    scaled = weights * (len(weights) / weights.sum())
    players = masks.shape[1]
    change = full - empty
    # A part that shares the change evenly meets the constraint; what is left sums to zero.
    rest = values - empty - masks.sum(axis=1, keepdims=True) / players * change
    # Directions that sum to zero: p - 1 unknowns without a constraint.
    basis = _zero_sum_basis(players)
    root = np.sqrt(scaled)[:, None]
    columns, target = root * (masks @ basis), root * rest
    if ridge > 0:
        normal = columns.T @ columns + ridge * np.eye(players - 1)
        inner = np.linalg.solve(normal, columns.T @ target)
    else:
        inner = np.linalg.lstsq(columns, target, rcond=1e-10)[0]
    found: np.ndarray = basis @ inner + change / players
    return found


def _zero_sum_basis(players: int) -> np.ndarray:
    """Orthonormal columns, each summing to zero (Helmert)."""
    basis = np.zeros((players, players - 1))
    for column in range(1, players):
        basis[:column, column - 1] = 1.0
        basis[column, column - 1] = -float(column)
        basis[:, column - 1] /= math.sqrt(column * (column + 1))
    return basis


def n_coalitions(players: int, samples: int, estimator: str) -> int:
    """Return how many coalitions :func:`shapley_values` plays at most."""
    everything = 2**players if players <= 30 else samples + 2
    if estimator == GAUSSIAN:
        samples = 2 * min(samples // 2, MOST_PAIRS, all_pairs(max(players, 1)))
    if estimator == "exact" or players <= 2:
        return everything
    return min(samples + 2, everything)
