"""Isolation forests (scikit-learn) over RoI importances: scores, held-out scores, and exact Shapley values of a score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

TREES = 100
#: Up to this many cases each is held out on its own; beyond, in as many folds.
MOST_LEFT_OUT_ALONE = 64
# Twice the cases a tree takes (256): from here on each case is outside of half the trees or more.
_OUT_OF_BAG_FROM = 512


def fit_forest(features: np.ndarray, seed: int) -> Any:
    """Fit scikit-learn's ``IsolationForest`` with 100 trees.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        Finite.
    seed : int
        Its ``random_state``.
    """
    from sklearn.ensemble import IsolationForest

    return IsolationForest(n_estimators=TREES, random_state=seed).fit(features)


def anomaly_score(forest: Any, features: np.ndarray) -> np.ndarray:
    """Return the paper's anomaly score, 0 to 1: higher is odder (scikit-learn's ``score_samples`` with its sign turned)."""
    return -np.asarray(forest.score_samples(features))


def held_out_scores(features: np.ndarray, seed: int) -> np.ndarray:
    """Score each reference case by a forest that has not seen it.

    Up to 64 cases each is left out alone; up to 511 they are left out in 64 folds; from 512 on the trees of the one forest
    that did not draw a case score it (each tree draws 256), which costs no further fit.

    Parameters
    ----------
    features : ndarray, shape (cases, features)
        At least two cases.
    seed : int
        Of every forest, and of the folds.

    Returns
    -------
    ndarray, shape (cases,)
        Anomaly scores.
    """
    count = len(features)
    if count >= _OUT_OF_BAG_FROM:
        return _out_of_bag_scores(fit_forest(features, seed), features)
    scores = np.empty(count)
    for out in held_out_folds(count, MOST_LEFT_OUT_ALONE, seed):
        scores[out] = anomaly_score(fit_forest(features[~out], seed), features[out])
    return scores


def held_out_folds(count: int, most: int, seed: int) -> Iterator[np.ndarray]:
    """Yield masks, shape (count,), of the cases to leave out together: each alone up to ``most``, beyond in ``most`` folds."""
    fold = np.arange(count) % min(count, most)
    if count > most:
        np.random.default_rng(seed).shuffle(fold)
    for index in np.unique(fold):
        yield fold == index


def _out_of_bag_scores(forest: Any, features: np.ndarray) -> np.ndarray:
    depth, trees = np.zeros(len(features)), np.zeros(len(features))
    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        out = np.ones(len(features), dtype=bool)
        out[drawn] = False
        leaves = tree.tree_.apply(features[out].astype(np.float32))
        depth[out] += _leaf_depths(tree.tree_)[leaves]
        trees[out] += 1
    return 2.0 ** -(depth / np.maximum(trees, 1) / _average_path(np.array([forest.max_samples_]))[0])


def _average_path(counts: np.ndarray) -> np.ndarray:
    """Mean length of an unsuccessful search in a binary tree of that many points: c(n) of Liu et al. 2008."""
    n = np.maximum(counts.astype(float), 1.0)
    long = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, long))


def _leaf_depths(tree: Any) -> np.ndarray:
    """Return, per node, the path length that ends there: its depth, and what the points left in it would still take."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth + _average_path(tree.n_node_samples)


def contributions(forest: Any, cases: np.ndarray) -> np.ndarray:
    """Return how much each feature makes each case unusual: exact path-dependent Shapley values.

    What is shared out is the mean path length of the forest, turned round so that positive means odder: the values of a
    case sum to (mean path length over the reference) - (its own). These are the values of TreeExplainer (Lundberg et al.
    2020) for an isolation forest; no more is needed here than trees of depth 8, whose leaves are taken all at once.

    Parameters
    ----------
    forest : IsolationForest
        Fitted.
    cases : ndarray, shape (cases, features)
        What to explain.

    Returns
    -------
    ndarray, shape (cases, features)
        Shapley values, in steps of path length.
    """
    x = cases.astype(np.float32).astype(float)
    total = np.zeros(x.shape)
    for estimator in forest.estimators_:
        _add_tree(estimator.tree_, x, total)
    return -total / len(forest.estimators_)


def _add_tree(tree: Any, x: np.ndarray, total: np.ndarray) -> None:
    values = _leaf_depths(tree)
    for depth, leaves in _paths(tree).items():
        features, weights, lower, upper, ends = leaves
        if depth == 0:
            continue
        length = values[ends]
        point = x[:, features]
        inside = ((point > lower) & (point <= upper)).astype(float)
        shares = _shapley_of_products(inside, np.broadcast_to(weights, inside.shape))
        for j in range(depth):
            np.add.at(total.T, features[:, j], (shares[:, :, j] * length).T)


def _paths(tree: Any) -> dict[int, tuple[np.ndarray, ...]]:
    """Group leaves by the number of features on their path: features, cover shares, bounds (leaves, features), nodes."""
    groups: dict[int, list[tuple[list[int], list[float], list[float], list[float], int]]] = {}
    stack: list[tuple[int, dict[int, tuple[float, float, float]]]] = [(0, {})]
    while stack:
        node, path = stack.pop()
        left, right = int(tree.children_left[node]), int(tree.children_right[node])
        if left < 0:
            columns = [[part[i] for part in path.values()] for i in range(3)]
            groups.setdefault(len(path), []).append((list(path), columns[0], columns[1], columns[2], node))
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        share, low, high = path.get(feature, (1.0, -np.inf, np.inf))
        whole = float(tree.weighted_n_node_samples[node])
        for child, bounds in ((left, (low, min(high, threshold))), (right, (max(low, threshold), high))):
            cover = share * float(tree.weighted_n_node_samples[child]) / whole
            stack.append((child, {**path, feature: (cover, *bounds)}))
    return {size: tuple(np.array([leaf[i] for leaf in leaves]) for i in range(5)) for size, leaves in groups.items()}


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
