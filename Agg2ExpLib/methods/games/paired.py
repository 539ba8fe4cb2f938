"""Shapley values and pairwise interactions from pairs of coalitions, by a Gaussian process over all interactions.

A coalition and its complement are played together. Half the difference of their values is the odd part of the game, half
the sum the even part: Shapley values depend on the odd part alone, pairwise interactions on the even part alone. With z_i = 1
for a player that is kept and -1 for one that is removed, either part is a sum over sets of players A of f_A prod_{i in A} z_i.
The prior of f_A has variance prod_{i in A} tanh(b_i), so the covariance of two coalitions is sinh (odd) or cosh (even) of
sum_i b_i z_i z'_i, and that of a coalition with a Shapley value or an interaction is an integral over one variable.
A player's scale b_i tells how much it acts together with others; the scales are fitted by penalised maximum likelihood.

The posterior's standard error is a little too small where very many players act together, that of leaving out one pair after the
other (the jackknife) up to twice too large: the variance told is the mean of the posterior's and the larger of the two.

Shapley value of i: sum of 2 f_A / |A| over odd A that hold i. Shapley interaction index of i and j: sum of 4 f_A / (|A| - 1)
over even A that hold both.

References
----------
Musco and Witter, Provably Accurate Shapley Value Estimation via Leverage Score Sampling, ICLR 2025 (the coalitions drawn).
Fumagalli et al., OddSHAP, 2026 (only the odd part matters).
Rundel et al., ShaplEIG: Bayesian Experimental Design for Shapley Value Estimation, ICML 2026 (Gaussian processes on coalitions).
Grabisch and Roubens, An Axiomatic Approach to the Concept of Interaction among Players, 1999 (the interaction index).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from Agg2ExpLib.errors import InputError

Game = Callable[[np.ndarray], np.ndarray]

#: Most pairs of one game: the cost of a fit grows with their cube.
MOST_PAIRS = 512
# Up to so many players each has its own scale; above, one serves all.
_OWN_SCALES = 32
# Prior of log b: about this, with this spread; and the spread of a player's around it.
_SCALE, _SPREAD, _OWN_SPREAD = math.log(0.15), 1.5, 1.0
_LOWEST, _HIGHEST = -9.0, 1.0
_STARTS = np.log([0.003, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6])
# Share of the variance that rounding may have: networks answer in single precision.
_ROUNDING = 1e-6
# What differs from a sum over players by less than this share is one.
_ADDITIVE = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_T, _W = (_NODES + 1) / 2, _WEIGHTS / 2


class PairedGame:
    """One game, played in as many pairs of coalitions as are asked for; further ones go on from those.

    Parameters
    ----------
    game : callable
        Coalitions, bool (n, p), to values (n, outputs).
    players : int
        p, at least 1.
    seed : int
        Of the pairs.

    Raises
    ------
    InputError
        More players than coalitions that can be taken.
    """

    def __init__(self, game: Game, players: int, seed: int = 0) -> None:
        if players > 2 * MOST_PAIRS:
            raise InputError(
                f"estimator 'gaussian-process' takes at most {2 * MOST_PAIRS} supervoxels in one game, and here are {players}; "
                "use fewer supervoxels, or --estimator regression"
            )
        self.players, self._game = players, game
        self.full, self.empty = game(np.array([[True], [False]]).repeat(players, axis=1))
        self._stream = draw_pairs(players, seed)
        self._halves = np.zeros((0, players), dtype=bool)
        self._with, self._without = (np.zeros((0, len(self.full))) for _ in range(2))
        self._logs: dict[tuple[bool, int], np.ndarray] = {}

    @property
    def pairs(self) -> int:
        """Pairs played, beside that of all players and none."""
        return len(self._halves)

    @property
    def whole(self) -> bool:
        """Whether every coalition was played."""
        return self.pairs == all_pairs(self.players)

    def play(self, pairs: int) -> None:
        """Play on until so many pairs are played, or all that there are."""
        more = min(pairs, all_pairs(self.players)) - self.pairs
        if more > 0:
            halves = np.array([next(self._stream) for _ in range(more)])
            values = self._game(np.stack([halves, ~halves], axis=1).reshape(2 * more, -1))
            self._halves = np.concatenate([self._halves, halves])
            self._with = np.concatenate([self._with, values[0::2]])
            self._without = np.concatenate([self._without, values[1::2]])

    def table(self) -> np.ndarray:
        """Return the values of all coalitions by their code, bit i of which is player i; for a game that is whole."""
        bits = 1 << np.arange(self.players)
        found = np.empty((2**self.players, len(self.full)))
        found[0], found[-1] = self.empty, self.full
        found[self._halves @ bits], found[~self._halves @ bits] = self._with, self._without
        return found

    def shapley(self) -> tuple[np.ndarray, np.ndarray]:
        """Return Shapley values and their standard errors, shapes (p, outputs); of a game that is not whole."""
        z, odd = self._part(-1.0)
        found = [self._fit(z, one, False, output) for output, one in enumerate(odd.T)]
        values, errors = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        # Rounding aside they sum to the change already.
        return values + (self.full - self.empty - values.sum(axis=0)) / self.players, errors

    def interactions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return interactions and their standard errors, shapes (pairs of players, outputs) in the order of ``triu_indices``."""
        z, even = self._part(1.0)
        found = [self._fit(z, one - one.mean(), True, output) for output, one in enumerate(even.T)]
        values, errors = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        return values, errors

    def _part(self, sign: float) -> tuple[np.ndarray, np.ndarray]:
        """The played coalitions as -1 and 1, the full one last, and the odd or even part of the game at them."""
        z = np.concatenate([2.0 * self._halves - 1.0, np.ones((1, self.players))])
        high = np.concatenate([self._with, self.full[None]])
        return z, (high + sign * np.concatenate([self._without, self.empty[None]])) / 2

    def _fit(self, z: np.ndarray, part: np.ndarray, even: bool, output: int) -> tuple[np.ndarray, np.ndarray]:
        size = float(np.sqrt(np.mean(part**2)))
        if size <= 0:
            nothing = np.zeros(self.players * (self.players - 1) // 2 if even else self.players)
            return nothing, nothing
        if not even and len(z) >= self.players + 2:
            worth, _, rank, _ = np.linalg.lstsq(z, part, rcond=None)
            left = float(np.sqrt(np.mean((part - z @ worth) ** 2)))
            if rank == self.players and left <= _ADDITIVE * size:
                return 2 * worth, np.full(self.players, left)
        logs = _fitted(z, part / size, even, self._logs.get((even, output)))
        self._logs[even, output] = logs
        mean, error = _posterior(z, part / size, even, logs)
        return mean * size, error * size


def all_pairs(players: int) -> int:
    """Return how many pairs of coalitions there are, beside that of all players and none."""
    return 2 ** (players - 1) - 1


def draw_pairs(players: int, seed: int) -> Iterator[np.ndarray]:
    """Yield one coalition of each pair, none twice: every size as likely as another, by leverage, until all are drawn."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, players // 2 + 1)
    there = np.array(
        [math.comb(players, int(size)) // (2 if 2 * size == players else 1) for size in sizes], dtype=float
    )
    # A pair has two sizes, but where it halves the players.
    share = np.where(2 * sizes == players, 1.0, 2.0)
    drawn, seen = np.zeros(len(sizes)), set()
    while (drawn < there).any():
        open_sizes = share * (drawn < there)
        number = int(rng.choice(len(sizes), p=open_sizes / open_sizes.sum()))
        while True:
            half = np.zeros(players, dtype=bool)
            half[rng.permutation(players)[: sizes[number]]] = True
            # A pair is known by its coalition with the first player.
            half = half if half[0] else ~half
            if half.tobytes() not in seen:
                break
        seen.add(half.tobytes())
        drawn[number] += 1
        yield half


def exact_interactions(table: np.ndarray) -> np.ndarray:
    """Return the Shapley interaction indices from the values of all coalitions.

    Parameters
    ----------
    table : ndarray, shape (2^p, outputs)
        By code, bit i of which is player i.

    Returns
    -------
    ndarray, shape (pairs of players, outputs)
        In the order of ``triu_indices``.

    Examples
    --------
    >>> exact_interactions(np.array([[0.0], [1.0], [0.0], [6.0]])).tolist()
    [[5.0]]
    """
    players = len(table).bit_length() - 1
    codes = np.arange(len(table))
    sizes = ((codes[:, None] >> np.arange(players)) & 1).sum(axis=1)
    weight = np.array([1 / ((players - 1) * math.comb(players - 2, t)) for t in range(players - 1)])
    found = [np.zeros((0, table.shape[1]))]
    for i, j in zip(*np.triu_indices(players, 1), strict=True):
        others = codes[((codes >> i) | (codes >> j)) & 1 == 0]
        one, two = 1 << int(i), 1 << int(j)
        gain = table[others | one | two] - table[others | one] - table[others | two] + table[others]
        found.append(weight[sizes[others]][None] @ gain)
    return np.concatenate(found)


def _kernels(z: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sinh and cosh of sum_i b_i z_i z'_i, divided by exp(sum_i b_i)."""
    inner, most = (z * scales) @ z.T, scales.sum()
    high, low = np.exp(inner - most), np.exp(-inner - most)
    return (high - low) / 2, (high + low) / 2


def _solved(
    z: np.ndarray, part: np.ndarray, even: bool, scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]:
    """Return kernel, its derivative's kernel, inverse, half the log of its determinant, and weights of the answers."""
    from scipy.linalg import cho_factor, cho_solve

    odd_kernel, even_kernel = _kernels(z, scales)
    kernel, other = (even_kernel, odd_kernel) if even else (odd_kernel, even_kernel)
    for one in (kernel, other):
        one[np.diag_indices(len(one))] *= 1.0 + _ROUNDING
    factor = cho_factor(kernel, lower=True)
    inverse = cho_solve(factor, np.eye(len(kernel)))
    return kernel, other, inverse, float(np.log(np.diag(factor[0])).sum()), inverse @ part


def _loss(x: np.ndarray, z: np.ndarray, part: np.ndarray, even: bool) -> tuple[float, np.ndarray]:
    """Penalised negative log-likelihood, and its gradient, of the scales' logarithms: what they share, and each player's own."""
    own = len(x) > 1
    logs = x[1:] if own else np.full(z.shape[1], x[0])
    scales = np.exp(logs)
    try:
        kernel, other, inverse, half_log, weights = _solved(z, part, even, scales)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(x)
    count = len(part)
    fit = max(float(part @ weights), 1e-300)
    loss = 0.5 * count * math.log(fit / count) + half_log
    pull = inverse - np.outer(weights, weights) * (count / fit)
    slope = 0.5 * scales * ((z * ((pull * other) @ z)).sum(axis=0) - (pull * kernel).sum())
    away = (x[0] - _SCALE) / _SPREAD**2
    loss += 0.5 * away * (x[0] - _SCALE)
    if not own:
        return loss, np.array([slope.sum() + away])
    apart = (logs - x[0]) / _OWN_SPREAD**2
    loss += 0.5 * float(apart @ (logs - x[0]))
    return loss, np.concatenate([[away - apart.sum()], slope + apart])


def _fitted(z: np.ndarray, part: np.ndarray, even: bool, start: np.ndarray | None) -> np.ndarray:
    """Return the logarithms that :func:`_loss` takes; ``start`` is what fitted fewer coalitions."""
    from scipy.optimize import minimize

    players = z.shape[1]
    if start is None:
        best = min(_STARTS, key=lambda one: _loss(np.array([one]), z, part, even)[0])
        start = np.full(1 + (players if players <= _OWN_SCALES else 0), best)
    bounds = [(_LOWEST, _HIGHEST)] * len(start)
    found: np.ndarray = minimize(
        _loss, start, (z, part, even), "L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 30}
    ).x
    return found


def _posterior(z: np.ndarray, part: np.ndarray, even: bool, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values wanted and their standard errors."""
    scales = np.exp(logs[1:] if len(logs) > 1 else np.full(z.shape[1], logs[0]))
    _, _, inverse, _, weights = _solved(z, part, even, scales)
    towards, before = (_towards_pairs if even else _towards_players)(z, scales)
    shares = inverse @ towards
    # Every scale fitted has taken one degree of freedom.
    noise = float(part @ weights) / max(len(part) - max(len(logs) - 1, 1), len(part) / 4)
    variance = noise * np.maximum(before - (towards * shares).sum(axis=0), 0.0)
    # What leaving out one pair changes, in closed form.
    left_out = ((shares * (weights / np.diag(inverse))[:, None]) ** 2).sum(axis=0)
    return towards.T @ weights, np.sqrt((variance + np.maximum(variance, left_out)) / 2)


def _towards_players(z: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prior covariance of the played coalitions with each Shapley value, shape (m, p), and the values' variance."""
    rates, covariance, variance = np.tanh(scales), np.zeros_like(z), np.zeros(len(scales))
    for t, weight in zip(_T, _W, strict=True):
        for sign in (1.0, -1.0):
            covariance += (
                weight * np.exp(_log_product(z, sign * t * rates, scales))[:, None] / (1 + sign * t * rates * z)
            )
            for s, second in zip(_T, _W, strict=True):
                log = _log_product(np.ones_like(scales), sign * t * s * rates, scales)
                variance += weight * second * np.exp(log) / (1 + sign * t * s * rates)
    return covariance * rates * z, 2 * rates * variance


def _towards_pairs(z: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of the interaction of each pair of players, in the order of ``triu_indices``."""
    first, second = np.triu_indices(len(scales), 1)
    rates = np.tanh(scales)
    both = rates[first] * rates[second]
    covariance, variance = np.zeros((len(z), len(first))), np.zeros(len(first))
    for t, weight in zip(_T, _W, strict=True):
        for sign in (1.0, -1.0):
            single = 1 / (1 + sign * t * rates * z)
            log = _log_product(z, sign * t * rates, scales)
            covariance += weight * np.exp(log)[:, None] * single[:, first] * single[:, second]
            for s, other in zip(_T, _W, strict=True):
                alone = 1 / (1 + sign * t * s * rates)
                log = _log_product(np.ones_like(scales), sign * t * s * rates, scales)
                variance += weight * other * np.exp(log) * alone[first] * alone[second]
    return 2 * both * covariance * z[:, first] * z[:, second], 8 * both * variance


def _log_product(z: np.ndarray, rates: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Logarithm of prod_i (1 + r_i z_i) cosh(b_i) / exp(b_i), over the players of each row."""
    high, low = np.log1p(rates), np.log1p(-rates)
    constant = ((high + low) / 2 + np.log((1 + np.exp(-2 * scales)) / 2)).sum()
    found: np.ndarray = constant + z @ ((high - low) / 2)
    return found
