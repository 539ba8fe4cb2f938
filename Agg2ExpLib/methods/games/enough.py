"""How many coalitions are enough: several games whose values are summed are played on until a standard error is reached.

One game a window, or one of the scan. After each round the games get more pairs of coalitions whose share of the variance falls
most for each; so a window that hardly matters to a class costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from Agg2ExpLib.methods.games.paired import MOST_PAIRS, PairedGame, all_pairs
from Agg2ExpLib.methods.games.shapley import ShapleyValues, of_pairs
from Agg2ExpLib.progress import Progress

# Pairs of the first round at least.
_FIRST_PAIRS = 8
# A round adds this share of a game's pairs, to the games whose gain is at least this share of the best.
_GROWTH, _NEARLY = 0.5, 0.5


@dataclass(eq=False)
class Games:
    """Games whose values are summed.

    Parameters
    ----------
    games : mapping of int to PairedGame
        By window.
    places : mapping of int to ndarray of int
        The players of each game, as rows of the sum.
    players : int
        Rows of the sum.
    most : int
        Coalitions of all games together, at most.
    estimate : callable
        What is summed: the games' Shapley values, or their interactions.
    """

    games: Mapping[int, PairedGame]
    places: Mapping[int, np.ndarray]
    players: int
    most: int
    estimate: Callable[[PairedGame], ShapleyValues] = of_pairs
    _found: dict[int, tuple[int, ShapleyValues]] = field(default_factory=dict)

    @property
    def coalitions(self) -> int:
        """Played so far."""
        return sum(2 * game.pairs + 2 for game in self.games.values())

    def play(self, tolerance: float, progress: Progress, unit: int = 1) -> ShapleyValues:
        """Play until the standard error is small enough in every output, or no coalition is left.

        Parameters
        ----------
        tolerance : float
            Largest standard error of an output, as a share of its largest value.
        progress : Progress
            Told after each round what is reached, and how many coalitions are expected in all.
        unit : int
            Units of progress of one coalition.
        """
        before = progress.done - self.coalitions * unit
        for key, game in self.games.items():
            self._extend(key, min(first_pairs(game.players), self.most // (2 * len(self.games)) - 1))
        while True:
            found = self._sum()
            reached = shares(found)
            worst = float(reached.max(initial=0.0))
            gains = self._gains(found, reached > tolerance)
            # The error falls with the square of the coalitions at best.
            ahead = self.coalitions * (worst / max(tolerance, 1e-9)) ** 0.5 if gains else self.coalitions
            least, most = before + round(min(ahead, self.most)) * unit, before + (self.most if gains else 0) * unit
            progress.expect(least, most, f"standard error {100 * worst:.2g}% of the largest value")
            if not gains:
                return found
            for key, gain in gains.items():
                if gain >= _NEARLY * max(gains.values()):
                    self._extend(key, max(2, round(_GROWTH * self.games[key].pairs)))

    def _extend(self, key: int, pairs: int) -> None:
        game, left = self.games[key], (self.most - self.coalitions) // 2
        game.play(min(game.pairs + min(pairs, left), MOST_PAIRS))

    def _sum(self) -> ShapleyValues:
        outputs = len(next(iter(self.games.values())).full)
        total, variance = (np.zeros((self.players, outputs)) for _ in range(2))
        full, empty = np.zeros(outputs), np.zeros(outputs)
        for key in self.games:
            one = self._of(key)
            total[self.places[key]] += one.values
            variance[self.places[key]] += one.errors**2
            full, empty = full + one.full, empty + one.empty
        most = max(one.coalitions for _, one in self._found.values())
        return ShapleyValues(total, np.sqrt(variance), full, empty, most)

    def _of(self, key: int) -> ShapleyValues:
        """A game's values, estimated anew only where it has been played on."""
        game = self.games[key]
        if key not in self._found or self._found[key][0] != game.pairs:
            self._found[key] = (game.pairs, self.estimate(game))
        return self._found[key][1]

    def _gains(self, found: ShapleyValues, wanting: np.ndarray) -> dict[int, float]:
        """How much the variance of the outputs that want more falls by one more pair, for each game that can be played on."""
        gains = {}
        outputs = np.flatnonzero(wanting)
        # In each output the player whose error is largest; its variance counts in units of the largest value.
        player = found.errors[:, outputs].argmax(axis=0)
        unit = np.maximum(np.abs(found.values[:, outputs]).max(axis=0), 1e-300) ** 2
        for key, game in self.games.items():
            if game.pairs < min(all_pairs(game.players), MOST_PAIRS) and self.coalitions + 2 <= self.most:
                errors = np.zeros((self.players, len(wanting)))
                errors[self.places[key]] = self._of(key).errors
                gain = float((errors[player, outputs] ** 2 / unit).sum()) / max(game.pairs, 1)
                if gain > 0:
                    gains[key] = gain
        return gains


def first_pairs(players: int) -> int:
    """Return the pairs of a game's first round: as many as tell its players apart, or it might stop before they are."""
    return max(_FIRST_PAIRS, players + 2)


def shares(found: ShapleyValues) -> np.ndarray:
    """Return the largest standard error of each output as a share of its largest value; 0 where nothing has a value."""
    largest = np.abs(found.values).max(axis=0, initial=0.0)
    errors = found.errors.max(axis=0, initial=0.0)
    return np.divide(errors, largest, out=np.zeros_like(errors), where=largest > 0)
