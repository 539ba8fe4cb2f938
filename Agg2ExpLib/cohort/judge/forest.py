"""Isolation forests (Liu, Ting and Zhou 2008) over RoI importances: scores, held-out scores, Shapley values of a score.

The trees are those of scikit-learn's ``IsolationForest`` (a feature at random among those that vary, a threshold at random
between its ends, at most 256 cases a tree, depth up to the logarithm of their number), but all trees of a forest grow at the
same time, level by level, in NumPy. A thousand trees then cost what a hundred cost there, and a case can be left out of its
own reference at a price that a report can pay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

#: Trees of a forest: so many that another seed hardly changes who is called unusual. The paper has 100.
TREES, PAPER_TREES = 1000, 100
#: Up to this many cases each is held out on its own; beyond, in as many folds.
MOST_LEFT_OUT_ALONE = 64
# Cases that a tree draws at most, as in the paper.
_DRAWN = 256
# From here on each case is outside of a third of the trees or more.
_OUT_OF_BAG_FROM = 384
# scikit-learn takes a feature of a smaller range than this for constant.
_CONSTANT = 1e-7
_TRIES = 4
_CASES_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Forest:
    """Grown trees; the first nodes are their roots.

    Attributes
    ----------
    feature, left : ndarray of int, shape (nodes,)
        Feature that a node splits by (-1: a leaf), and its left child; the right one is next to it.
    threshold : ndarray, shape (nodes,)
        Cases up to it go left.
    count, depth : ndarray of int, shape (nodes,)
        Cases that a node holds, and how many splits lie above it.
    trees, drawn, features : int
        Trees, cases that each was grown on, and features.
    members : ndarray of int, shape (trees, drawn)
        Which cases.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    count: np.ndarray
    depth: np.ndarray
    trees: int
    drawn: int
    features: int
    members: np.ndarray

    def paths(self, cases: np.ndarray) -> np.ndarray:
        """Return path lengths, shape (cases, trees): splits, and what the cases left in a leaf would still take."""
        ends = self.depth + average_path(self.count)
        node = np.broadcast_to(np.arange(self.trees), (len(cases), self.trees)).copy()
        rows = np.arange(len(cases))[:, None]
        for _ in range(int(self.depth.max(initial=0))):
            feature = self.feature[node]
            right = cases[rows, np.maximum(feature, 0)] > self.threshold[node]
            node = np.where(feature >= 0, self.left[node] + right, node)
        return np.asarray(ends[node])

    def to_score(self, mean_path: np.ndarray) -> np.ndarray:
        """Return the paper's anomaly score, 0 to 1, of mean path lengths: higher is odder."""
        return np.asarray(2.0 ** -(mean_path / self.scale))

    @property
    def scale(self) -> float:
        """Mean path length that is expected of that many cases."""
        return max(float(average_path(np.array([self.drawn]))[0]), 1e-300)


def fit_forest(features: np.ndarray, seed: int | Sequence[int], trees: int = TREES) -> Forest:
    """Grow an isolation forest.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        Finite; at least two cases.
    seed : int or sequence of int
        Of everything random.
    trees : int
        How many.
    """
    rng = np.random.default_rng(seed)
    count = len(features)
    drawn = min(_DRAWN, count)
    members = np.broadcast_to(np.arange(count), (trees, count))
    if drawn < count:
        members = np.stack([rng.choice(count, drawn, replace=False) for _ in range(trees)])
    return _grow(np.ascontiguousarray(features, dtype=float), members, rng)


def _grow(x: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> Forest:
    trees, drawn = members.shape
    # The cases of a node lie side by side in `point`; `start` says where those of each node begin.
    point = members.ravel().copy()
    count = np.full(trees, drawn)
    levels, first = [], 0
    most = math.ceil(math.log2(max(drawn, 2)))
    for depth in range(most + 1):
        start = np.cumsum(count) - count
        feature = np.full(len(count), -1)
        threshold, left = np.full(len(count), np.nan), np.full(len(count), -1)
        after = first + len(count)
        levels.append((feature, threshold, left, count, np.full(len(count), depth)))
        wide = count > 1
        if depth == most or not wide.any():
            break
        # Single cases are leaves: they need not be looked at again.
        point, size = point[np.repeat(wide, count)], count[wide]
        start = np.cumsum(size) - size
        chosen, low, high = _choose(x, point, start, size, rng)
        split = chosen >= 0
        cut = low + rng.random(len(size)) * (high - low)
        cut = np.where(cut < high, cut, low)
        feature[wide], threshold[wide] = chosen, np.where(split, cut, np.nan)
        point, size, chosen, cut = point[np.repeat(split, size)], size[split], chosen[split], cut[split]
        if not len(size):
            break
        point, count = _part(x, point, size, chosen, cut)
        left[np.flatnonzero(wide)[split]] = after + 2 * np.arange(len(size))
        first = after
    feature, threshold, left, count, above = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    return Forest(feature, threshold, left, count, above, trees, drawn, x.shape[1], members)


def _choose(
    x: np.ndarray, point: np.ndarray, start: np.ndarray, size: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose a feature at random among those that vary in each node (-1 where none does), with its ends."""
    nodes = len(size)
    feature, low, high = np.full(nodes, -1), np.zeros(nodes), np.zeros(nodes)
    open_ = np.arange(nodes)
    inside, begin = point, start
    for attempt in range(_TRIES + 1):
        last = attempt == _TRIES
        candidate = _any_that_varies(x, inside, begin, rng) if last else rng.integers(x.shape[1], size=len(open_))
        values = x[inside, np.repeat(np.maximum(candidate, 0), size[open_])]
        ends = np.minimum.reduceat(values, begin), np.maximum.reduceat(values, begin)
        good = (ends[1] - ends[0] > _CONSTANT) & (candidate >= 0)
        feature[open_[good]], low[open_[good]], high[open_[good]] = candidate[good], ends[0][good], ends[1][good]
        if last or good.all():
            break
        inside = inside[np.repeat(~good, size[open_])]
        open_ = open_[~good]
        begin = np.cumsum(size[open_]) - size[open_]
    return feature, low, high


def _any_that_varies(x: np.ndarray, point: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Look at every feature, for nodes in which most are constant."""
    chance = np.full((len(start), x.shape[1]), -1.0)
    for column in range(x.shape[1]):
        values = x[point, column]
        varies = np.maximum.reduceat(values, start) - np.minimum.reduceat(values, start) > _CONSTANT
        chance[varies, column] = rng.random(int(varies.sum()))
    best = chance.argmax(axis=1)
    return np.where(chance[np.arange(len(start)), best] >= 0, best, -1)


def _part(
    x: np.ndarray, point: np.ndarray, size: np.ndarray, feature: np.ndarray, cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put the cases of each node's left child before those of its right one; return them and the children's counts."""
    start = np.cumsum(size) - size
    goes_left = x[point, np.repeat(feature, size)] <= np.repeat(cut, size)
    lefts = np.add.reduceat(goes_left.astype(np.int64), start)
    before = np.cumsum(goes_left) - goes_left
    before -= np.repeat(before[start], size)
    inside = np.arange(len(point)) - np.repeat(start, size)
    place = np.repeat(start, size) + np.where(goes_left, before, np.repeat(lefts, size) + inside - before)
    ordered = np.empty_like(point)
    ordered[place] = point
    return ordered, np.column_stack([lefts, size - lefts]).ravel()


def score_with_error(forest: Forest, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return anomaly scores, and the standard error that they have from the random choices of the trees."""
    parts = [
        _mean_and_error(forest, forest.paths(cases[begin : begin + _CASES_AT_ONCE]))
        for begin in range(0, len(cases), _CASES_AT_ONCE)
    ]
    if not parts:
        return np.empty(0), np.empty(0)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _mean_and_error(
    forest: Forest, paths: np.ndarray, counted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    used = np.ones(paths.shape, dtype=bool) if counted is None else counted
    number = np.maximum(used.sum(axis=1), 1)
    mean = np.where(used, paths, 0.0).sum(axis=1) / number
    squares = np.where(used, (paths - mean[:, None]) ** 2, 0.0).sum(axis=1)
    error = np.sqrt(squares / np.maximum(number - 1, 1) / number)
    score = forest.to_score(mean)
    return score, score * math.log(2.0) / forest.scale * error


def anomaly_score(forest: Forest, features: np.ndarray) -> np.ndarray:
    """Return the paper's anomaly score, 0 to 1: higher is odder (scikit-learn's ``score_samples`` with its sign turned)."""
    return score_with_error(forest, features)[0]


def held_out_scores(
    features: np.ndarray, seed: int, trees: int = TREES, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Score each reference case by trees that have not seen it.

    Up to 64 patients each is left out alone; up to 383 they are left out in 64 folds; from 384 on the trees of the one
    forest that did not draw a case score it (each tree draws 256), which costs no further growth. Several scans of one
    patient are always left out together, so that from 384 on they are in 64 folds too.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        At least two patients.
    seed : int
        Of every forest, and of the folds.
    trees : int
        Of every forest.
    patients : ndarray of int, shape (cases,), optional
        Whose scan a case is; by default each is a patient of its own.

    Returns
    -------
    scores, errors : ndarray, shape (cases,)
        Anomaly scores, and their standard errors from the random choices of the trees.
    """
    count = len(features)
    alone = patients is None or len(np.unique(patients)) == count
    if count >= _OUT_OF_BAG_FROM and alone:
        return _out_of_bag(fit_forest(features, seed, trees), features)
    scores, errors = np.empty(count), np.empty(count)
    for number, out in enumerate(held_out_folds(count, MOST_LEFT_OUT_ALONE, seed, patients)):
        forest = fit_forest(features[~out], (seed, number), trees)
        scores[out], errors[out] = score_with_error(forest, features[out])
    return scores, errors


def held_out_folds(count: int, most: int, seed: int, patients: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield masks, shape (count,), of the cases to leave out together: each patient alone, or all in ``most`` folds."""
    whose = np.arange(count) if patients is None else np.unique(patients, return_inverse=True)[1]
    number = int(whose.max()) + 1
    fold = np.arange(number) % min(number, most)
    if number > most:
        np.random.default_rng(seed).shuffle(fold)
    for index in np.unique(fold):
        yield fold[whose] == index


def _out_of_bag(forest: Forest, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    out = np.ones((len(features), forest.trees), dtype=bool)
    out[forest.members.T, np.arange(forest.trees)] = False
    scores, errors = np.empty(len(features)), np.empty(len(features))
    for begin in range(0, len(features), _CASES_AT_ONCE):
        some = slice(begin, begin + _CASES_AT_ONCE)
        scores[some], errors[some] = _mean_and_error(forest, forest.paths(features[some]), out[some])
    return scores, errors


def stability(scores: np.ndarray, errors: np.ndarray) -> float:
    """Return the correlation that scores of the same cases by forests of another seed are expected to have, 0 to 1.

    It is the share of the variance between cases that the random choices of the trees do not explain; NaN for fewer than
    three cases, or scores that do not vary.
    """
    known = np.isfinite(scores)
    if known.sum() < 3 or np.ptp(scores[known]) <= 0:
        return math.nan
    return float(max(1.0 - (errors[known] ** 2).mean() / scores[known].var(ddof=1), 0.0))


def trees_for(now: float, trees: int, wanted: float) -> int:
    """Return how many trees a stability needs, when ``trees`` have the stability ``now`` (errors fall with their root)."""
    if not 0.0 < now < wanted:
        return trees
    return math.ceil(trees * (1.0 - now) / now * wanted / (1.0 - wanted))


def average_path(counts: np.ndarray) -> np.ndarray:
    """Mean length of an unsuccessful search in a binary tree of that many points: c(n) of Liu et al. 2008."""
    n = np.maximum(np.asarray(counts).astype(float), 1.0)
    long = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, long))


def contributions(forest: Forest, cases: np.ndarray) -> np.ndarray:
    """Return how much each feature makes each case unusual: exact path-dependent Shapley values.

    What is shared out is the mean path length of the forest, turned round so that positive means odder: the values of a
    case sum to (mean path length over the reference) - (its own). These are the values of TreeExplainer (Lundberg et al.
    2020) for an isolation forest; no more is needed here than trees of depth 8, whose leaves are taken all at once.

    Parameters
    ----------
    forest : Forest
        Grown.
    cases : ndarray, shape (cases, features)
        What to explain.

    Returns
    -------
    ndarray, shape (cases, features)
        Shapley values, in steps of path length.
    """
    features, weights, lower, upper, lengths = _leaf_paths(forest)
    total = np.zeros((len(cases), forest.features))
    for row, case in enumerate(np.asarray(cases, dtype=float)):
        point = case[np.maximum(features, 0)]
        inside = ((point > lower) & (point <= upper)) | (features < 0)
        shares = _shapley_of_products(inside.astype(float), weights) * lengths[:, None]
        np.add.at(total[row], features[features >= 0], shares[features >= 0])
    return -total / forest.trees


def _leaf_paths(forest: Forest) -> tuple[np.ndarray, ...]:
    """Return, per leaf, the features on its path (-1: none), cover shares and bounds, (leaves, depth), and path lengths.

    A feature that a path meets twice is one player: its bounds are those of both splits, its share their product.
    """
    inner = np.flatnonzero(forest.feature >= 0)
    parent = np.full(len(forest.feature), -1)
    is_right = np.zeros(len(forest.feature), dtype=bool)
    parent[forest.left[inner]] = parent[forest.left[inner] + 1] = inner
    is_right[forest.left[inner] + 1] = True
    leaves = np.flatnonzero(forest.feature < 0)
    depth = int(forest.depth.max(initial=0))
    shape = (len(leaves), max(depth, 1))
    features, weights = np.full(shape, -1), np.ones(shape)
    lower, upper = np.full(shape, -np.inf), np.full(shape, np.inf)
    node = leaves.copy()
    for step in range(depth):
        above = parent[node]
        there = above >= 0
        mine, up = node[there], above[there]
        features[there, step] = forest.feature[up]
        weights[there, step] = forest.count[mine] / forest.count[up]
        lower[there, step] = np.where(is_right[mine], forest.threshold[up], -np.inf)
        upper[there, step] = np.where(is_right[mine], np.inf, forest.threshold[up])
        node = np.where(there, above, node)
    for one in range(depth):
        for other in range(one + 1, depth):
            same = (features[:, one] == features[:, other]) & (features[:, one] >= 0)
            weights[same, one] *= weights[same, other]
            lower[same, one] = np.maximum(lower[same, one], lower[same, other])
            upper[same, one] = np.minimum(upper[same, one], upper[same, other])
            features[same, other], weights[same, other] = -1, 1.0
    return features, weights, lower, upper, forest.depth[leaves] + average_path(forest.count[leaves])


def _shapley_of_products(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Shapley values of games whose value is a product over the players.

    Parameters
    ----------
    known, unknown : ndarray, shape (..., players)
        Factor of each player when it takes part (0 or 1), and when it does not (above 0, at most 1).

    Returns
    -------
    ndarray, shape (..., players)
        One value per player.
    """
    players = known.shape[-1]
    weight = _subset_weights(players)
    one, other = np.moveaxis(known, -1, 0), np.moveaxis(unknown, -1, 0)
    # Coefficient s of the polynomial prod(other + one t): sum over coalitions of s players of the product of factors.
    sums = np.zeros((players + 1, *known.shape[:-1]))
    sums[0] = 1.0
    for player in range(players):
        for size in range(player + 1, 0, -1):
            sums[size] = sums[size] * other[player] + sums[size - 1] * one[player]
        sums[0] *= other[player]
    shares = np.empty(one.shape)
    for player in range(players):
        # Divide this player's factor out again: from the top where it takes part, from the bottom where it cannot.
        joins = one[player] > 0
        rest = np.where(joins, sums[players], sums[players - 1] / other[player])
        total = weight[players - 1] * rest
        for size in range(players - 2, -1, -1):
            rest = np.where(joins, sums[size + 1] - other[player] * rest, sums[size] / other[player])
            total += weight[size] * rest
        shares[player] = (one[player] - other[player]) * total
    return np.moveaxis(shares, 0, -1)


def _subset_weights(players: int) -> np.ndarray:
    """Return s! (n - s - 1)! / n! for s = 0 to n - 1."""
    from math import comb

    return np.array([1.0 / (players * comb(players - 1, size)) for size in range(players)])
