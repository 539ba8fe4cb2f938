"""KernelSHAP over supervoxels (equation 6), all classes from the same coalitions.

F_c is a sum over windows, and Shapley values of a sum of games are the sums of their Shapley values. So the game may be
played *within each window* among the supervoxels that it holds (scope ``"window"``): fewer players need fewer
coalitions, each of one window only, and many games become small enough to play out. Scope ``"scan"`` is the paper's
one game over the scan. Both estimate the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.base import Context, option, register, seed_option
from Agg2ExpLib.methods.games.enough import Games, first_pairs, shares
from Agg2ExpLib.methods.games.paired import PairedGame
from Agg2ExpLib.methods.games.shapley import (
    ESTIMATORS,
    GAUSSIAN,
    MOST_EXACT,
    ShapleyValues,
    n_coalitions,
    shapley_values,
)
from Agg2ExpLib.methods.games.supervoxels import OWN_MAP, OWN_MAP_SAMPLES, SUPERVOXELS
from Agg2ExpLib.methods.removal import RemovalMethod, game_identity, spread

if TYPE_CHECKING:
    from Agg2ExpLib.case.objective import Objective
    from Agg2ExpLib.case.stitched import StitchedNetwork
    from Agg2ExpLib.methods.games.masking import MaskedValues
    from Agg2ExpLib.methods.games.supervoxels import Supervoxels
    from Agg2ExpLib.methods.games.value_store import ValueStore

#: What one game is played over -> what that means.
SCOPES: dict[str, str] = {
    "window": "one game per window among the supervoxels it holds, summed: the same Shapley values by fewer passes",
    "scan": "one game over the whole scan, as the paper",
}

#: Value function -> what it is; the first three are weighted sums of logits.
VALUE_FUNCTIONS: dict[str, str] = {
    "logit": "F_c: the class's aggregated logit over the voxels first predicted as it",
    "true-positive": "F_c over those of its voxels that the truth confirms",
    "false-positive": "F_c over those of its voxels that the truth denies",
    "dice": "Dice of the class against the truth, or the first prediction",
    "soft-dice": "soft Dice of its probability against the truth, or the first prediction",
    "false-positive-volume": "ml predicted as the class where the truth, or the first prediction, is not it",
}
LINEAR = ("logit", "true-positive", "false-positive")


@register
@dataclass(frozen=True)
class KernelSHAP(RemovalMethod):
    """KernelSHAP (equation 6); every voxel has its supervoxel's Shapley value."""

    id: ClassVar[str] = "kernelshap"
    name: ClassVar[str] = "KernelSHAP"
    equation: ClassVar[str] = "(6) Shapley values of the game 'keep these supervoxels, remove the others'"
    summary: ClassVar[str] = "Each supervoxel's fair share of the change from an empty scan to this one; slow."

    samples: int | None = option(
        None,
        "coalitions",
        "Coalitions of the whole scan at most, fewer in a window that holds fewer supervoxels; 200, or 1000 for regular ones.",
        kind=int,
        low=1,
        high=100_000,
    )
    tolerance: float = option(
        0.05,
        "standard error asked for",
        "Largest standard error of a class, as a share of its largest value, at which the gaussian-process estimator stops; "
        "0 plays all samples.",
        low=0.0,
        high=1.0,
    )
    estimator: str = option(GAUSSIAN, "estimator", "How the values are estimated.", choices=ESTIMATORS)
    scope: str = option("window", "scope", "What one game is played over.", choices=SCOPES)
    ridge: float = option(0.0, "ridge", "Penalty of a regression; 0 as in the paper's code.", low=0.0)
    value: str = option("logit", "value function", "What the game is about.", choices=VALUE_FUNCTIONS)
    seed: int = seed_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ridge > 0 and self.estimator == GAUSSIAN:
            raise InputError("a ridge penalty needs a regression; give --estimator regression with --ridge")

    @property
    def samples_taken(self) -> int:
        """The number of coalitions, chosen by the kind of supervoxels when none is given."""
        if self.samples is not None:
            return self.samples
        return OWN_MAP_SAMPLES if self.kind == OWN_MAP else SUPERVOXELS[self.kind][0]

    @property
    def linear(self) -> bool:
        """Whether the value is a weighted sum of logits."""
        return self.value in LINEAR

    def resolved(self) -> dict[str, object]:
        """Every option that counts, the number of coalitions filled in."""
        found = {**super().resolved(), "samples": self.samples_taken}
        return found if self.estimator == GAUSSIAN else {key: one for key, one in found.items() if key != "tolerance"}

    def passes(self, players: int = 0) -> tuple[int, int]:
        """A coalition is one forward pass, for all classes."""
        if self.estimator == "exact":
            return 2 ** min(players, MOST_EXACT), 0
        return n_coalitions(players, self.samples_taken, self.estimator), 0

    def attribute(
        self, stitched: StitchedNetwork, objectives: Sequence[Objective], context: Context
    ) -> Iterator[Attribution]:
        """Yield the attribution of each class that is present, all from the same coalitions."""
        from Agg2ExpLib.methods.games.value_functions import restricted
        from Agg2ExpLib.methods.games.value_store import ValueStore

        supervoxels = self.divide(context)
        supervoxels.check_grid(stitched.windows.volume_shape)
        present = [objective for objective in objectives if objective.voxels]
        if self.linear:
            present = [o for o in restricted(present, self.value, context.truth, stitched.windows) if o.voxels]
        if not present:
            return
        store = ValueStore(context.checkpoint, game_identity(present, supervoxels.labels, self.value))
        try:
            values = self._values(stitched, present, supervoxels, context, store)
            by_window = self.scope == "window" and self.linear
            if self.estimator == GAUSSIAN:
                found = self._until_enough(values, by_window, context.names)
            else:
                found = self._by_window(values) if by_window else self._by_scan(values)
        finally:
            store.close()
        yield from spread(found, present, supervoxels, stitched.channels)

    def _values(
        self,
        stitched: StitchedNetwork,
        present: Sequence[Objective],
        supervoxels: Supervoxels,
        context: Context,
        store: ValueStore,
    ) -> MaskedValues:
        from Agg2ExpLib.methods.games.masking import MaskedValues
        from Agg2ExpLib.methods.games.value_functions import PredictionValues, Reference

        run = {"store": store, "passes": context.passes, "progress": context.progress}
        if self.linear:
            return MaskedValues(stitched, present, supervoxels, **run)  # type: ignore[arg-type]
        voxel_ml = float(np.prod(context.spacing)) / 1000.0
        reference = Reference.of(context.segmentation, context.truth, self.value, voxel_ml)
        return PredictionValues(stitched, present, supervoxels, value=self.value, reference=reference, **run)

    def _until_enough(self, values: MaskedValues, by_window: bool, names: Sequence[str]) -> ShapleyValues:
        """Play the game of each window, or that of the scan, until the standard error asked for is reached."""
        self._refuse_few(len(values.active))
        games, constant = self.paired_games(values, by_window)
        if not games.games:
            nothing = np.zeros((values.n_supervoxels, len(values.objectives)))
            return ShapleyValues(nothing, nothing, constant, constant, 1)
        found = games.play(self.tolerance, values.progress, 1 if by_window else len(values.relevant))
        reached = shares(found)
        worst = int(reached.argmax())
        if 0 < self.tolerance < reached[worst]:
            index = values.objectives[worst].class_index
            values.progress.message(
                f"after {games.coalitions} coalitions the standard error of {names[index] if names else index} is "
                f"{100 * reached[worst]:.2g}% of its largest value, not the {100 * self.tolerance:.2g}% asked for: "
                "give more --samples"
            )
        return replace(found, full=found.full + constant, empty=found.empty + constant)

    def paired_games(self, values: MaskedValues, by_window: bool) -> tuple[Games, np.ndarray]:
        """Return the games of the windows, or that of the scan, to be played in pairs, and what windows without a player add."""
        active = values.active
        places = {index: players - 1 for index, players in values.players.items()} if by_window else {0: active - 1}
        most = {
            index: n_coalitions(len(place), window_samples(self.samples_taken, len(place), len(active)), GAUSSIAN)
            for index, place in places.items()
        }
        unit = 1 if by_window else len(values.relevant)
        first = sum(min(count, 2 * first_pairs(len(places[index])) + 2) for index, count in most.items())
        values.progress.stage("attributions", first * unit)
        values.progress.expect(first * unit, sum(most.values()) * unit)
        games, constant = {}, np.zeros(len(values.objectives))
        for index, place in places.items():
            game = partial(values.of_window, index) if by_window else partial(of_active, values)
            if place.size:
                games[index] = PairedGame(game, len(place), seed_of(self.seed, index) if by_window else self.seed)
            else:
                constant += game(np.zeros((1, 0), dtype=bool))[0]
        return Games(games, places, values.n_supervoxels, sum(most[index] for index in games)), constant

    def _by_window(self, values: MaskedValues) -> ShapleyValues:
        active = len(values.active)
        self._refuse_few(active)
        classes = len(values.objectives)
        total, variance = (np.zeros((values.n_supervoxels, classes)) for _ in range(2))
        full, empty = np.zeros(classes), np.zeros(classes)
        most = 0
        counts = {index: len(players) for index, players in values.players.items()}
        shared = {index: window_samples(self.samples_taken, count, active) for index, count in counts.items()}
        planned = [n_coalitions(counts[index], shared[index], self.estimator) for index in counts]
        values.progress.stage("attributions", sum(planned))
        for number, index in enumerate(values.relevant):
            detail = f"window {number + 1} of {len(values.relevant)}"
            players = values.players[index]
            if not players.size:
                nothing = values.of_window(index, np.zeros((1, 0), dtype=bool), detail)[0]
                full, empty = full + nothing, empty + nothing
                continue

            def game(kept: np.ndarray, index: int = index, detail: str = detail) -> np.ndarray:
                return values.of_window(index, kept, detail)

            samples, own_seed = shared[index], seed_of(self.seed, index)
            found = shapley_values(
                game, len(players), samples, estimator=self.estimator, ridge=self.ridge, seed=own_seed
            )
            total[players - 1] += found.values
            variance[players - 1] += found.errors**2
            full, empty = full + found.full, empty + found.empty
            most = max(most, found.coalitions)
        return ShapleyValues(total, np.sqrt(variance), full, empty, most)

    def _by_scan(self, values: MaskedValues) -> ShapleyValues:
        active = values.active
        self._refuse_few(len(active))
        planned = n_coalitions(len(active), self.samples_taken, self.estimator)
        values.progress.stage("attributions", planned * len(values.relevant))

        def game(kept: np.ndarray) -> np.ndarray:
            return of_active(values, kept, f"{len(active)} supervoxels")

        found = shapley_values(
            game, len(active), self.samples_taken, estimator=self.estimator, ridge=self.ridge, seed=self.seed
        )
        total, errors = (np.zeros((values.n_supervoxels, len(values.objectives))) for _ in range(2))
        total[active - 1], errors[active - 1] = found.values, found.errors
        return ShapleyValues(total, errors, found.full, found.empty, found.coalitions)

    def _refuse_few(self, players: int) -> None:
        samples = self.samples_taken
        if (
            self.estimator != "exact"
            and samples <= players
            and not (players <= MOST_EXACT and 2**players - 2 <= samples)
        ):
            raise InputError(
                f"{samples} samples are too few for {players} supervoxels: "
                f"give at least {players + 1} with --samples, or use fewer supervoxels"
            )


def window_samples(samples: int, players: int, active: int) -> int:
    """Return a window's share of the samples: in proportion to its players among all that matter."""
    return math.ceil(samples * players / max(active, 1))


def seed_of(seed: int, window: int) -> int:
    """Return a window's own seed, so that each draws its own coalitions."""
    return int(np.random.SeedSequence([seed, window]).generate_state(1, np.uint32)[0])


def of_active(values: MaskedValues, kept: np.ndarray, detail: str | None = None) -> np.ndarray:
    """Return F_c of coalitions of those supervoxels that can change a value; all others stay."""
    everyone = np.ones((len(kept), values.n_supervoxels), dtype=bool)
    everyone[:, values.active - 1] = kept
    return values.of_scan(everyone, detail)
