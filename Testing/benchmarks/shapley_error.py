"""Error of Shapley estimators against enumeration at equal coalitions: ``python -m Testing.benchmarks.shapley_error [GAME.npy]``.

GAME.npy holds the values of all coalitions of a game by code, bit i of which is player i: shape (2^p, outputs). Where shapiq is
installed, its estimators play the same games. Printed: root mean square error as a share of the largest value, in percent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from Agg2ExpLib.methods.games.paired import PairedGame, exact_interactions
from Agg2ExpLib.methods.games.shapley import exact, shapley_values

BUDGETS = (32, 64, 128, 256)
SEEDS = 6
#: Of shapiq 1.8; those that it does not have are left out.
SHAPIQ: dict[str, dict[str, str]] = {
    "KernelSHAP": {},
    "OddSHAP": {},
    "PolySHAP": {},
    "RegressionMSR": {"index": "SV", "proxy_model": "tree"},
}
Table = np.ndarray
Estimator = Callable[[Table, int, int], np.ndarray]


def coalitions(players: int) -> np.ndarray:
    """All coalitions by code."""
    return ((np.arange(2**players)[:, None] >> np.arange(players)) & 1).astype(bool)


def unanimity(players: int, seed: int) -> Table:
    """Sixty groups of up to five players, each worth something when it is whole."""
    rng, kept = np.random.default_rng(seed), coalitions(players)
    groups = [(rng.choice(players, rng.integers(1, 6), replace=False), rng.normal()) for _ in range(60)]
    return sum(worth * kept[:, group].all(axis=1, keepdims=True) for group, worth in groups)


def dense(players: int, seed: int) -> Table:
    """A network of one rectified layer in which all act with all."""
    rng = np.random.default_rng(seed)
    inner, outer = rng.normal(size=(players, 20)) / 2, rng.normal(size=(20, 1))
    return np.maximum(coalitions(players) @ inner - 0.5, 0) @ outer


def convolution(players: int, seed: int) -> Table:
    """A network of two convolutions over a row of players, of which the middle is read."""
    rng = np.random.default_rng(seed)
    x = coalitions(players) * rng.normal(size=players)
    for _ in range(2):
        weights = rng.normal(size=(3, players))
        x = np.tanh(sum(w * np.roll(x, shift, axis=1) for w, shift in zip(weights, (1, 0, -1), strict=True)))
    return x[:, players // 3 : players // 2].sum(axis=1, keepdims=True)


def own(name: str) -> Estimator:
    """An estimator of this library."""

    def run(table: Table, samples: int, seed: int) -> np.ndarray:
        players = len(table).bit_length() - 1
        play = lambda kept: table[kept @ (1 << np.arange(players))]  # noqa: E731
        if name == "gaussian-process":
            game = PairedGame(play, players, seed)
            game.play(samples // 2)
            return game.shapley()[0]
        return shapley_values(play, players, samples, estimator=name, seed=seed).values

    return run


def of_shapiq(name: str) -> Estimator | None:
    """An estimator of shapiq, where it is installed and has it."""
    try:
        import shapiq
    except ImportError:
        return None
    made = getattr(shapiq, name, None) or getattr(shapiq.approximator, name, None)
    if made is None:
        return None

    def run(table: Table, samples: int, seed: int) -> np.ndarray:
        players, found = len(table).bit_length() - 1, []
        for output in table.T:
            play = lambda kept, output=output: output[np.asarray(kept, dtype=bool) @ (1 << np.arange(players))]  # noqa: E731
            values = made(n=players, random_state=seed, **SHAPIQ[name]).approximate(samples + 2, play)
            found.append([values[(player,)] for player in range(players)])
        return np.array(found).T

    return run


def error(table: Table, estimator: Estimator, samples: int) -> float:
    """Root mean square error of a few seeds over the largest value, in percent, mean over outputs."""
    players = len(table).bit_length() - 1
    truth = exact(lambda kept: table[kept @ (1 << np.arange(players))], players).values
    gaps = np.array([estimator(table, samples, seed) - truth for seed in range(SEEDS)])
    return float(100 * (np.sqrt((gaps**2).mean(axis=(0, 1))) / np.abs(truth).max(axis=0)).mean())


def main(files: list[str]) -> None:
    """Print the table."""
    games = {kind.__name__: kind(12, 1) for kind in (unanimity, dense, convolution)}
    games.update({file: np.load(file) for file in files})
    estimators = {name: own(name) for name in ("gaussian-process", "regression")}
    estimators.update({f"shapiq {name}": found for name in SHAPIQ if (found := of_shapiq(name)) is not None})
    print("| game | estimator | " + " | ".join(map(str, BUDGETS)) + " |")
    print("|---|---|" + "---:|" * len(BUDGETS))
    for game, table in games.items():
        for name, estimator in estimators.items():
            cells = []
            for samples in BUDGETS:
                try:
                    cells.append(f"{error(table, estimator, samples):.2f}")
                except Exception as problem:  # an estimator that refuses so few coalitions
                    cells.append(type(problem).__name__)
            print(f"| {game} | {name} | " + " | ".join(cells) + " |", flush=True)
    try:
        from shapiq import ExactComputer
    except ImportError:
        return
    table = games["dense"][: 2**8, 0]
    play = lambda kept: table[np.asarray(kept, dtype=bool) @ (1 << np.arange(8))]  # noqa: E731
    theirs = ExactComputer(play, n_players=8)("SII", order=2)
    pairs = zip(*np.triu_indices(8, 1), strict=True)
    gaps = [
        theirs[(int(i), int(j))] - mine
        for (i, j), mine in zip(pairs, exact_interactions(table[:, None])[:, 0], strict=True)
    ]
    gap = max(map(abs, gaps))
    print(f"\nlargest difference of exact interactions from shapiq's: {gap:.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
