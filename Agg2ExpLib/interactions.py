"""Which structures act together: Shapley interaction indices of all pairs of supervoxels for one class.

The index of a pair is what the two add together beyond what each adds alone, averaged over all coalitions of the others as
Shapley values are. It is a sum over windows like F_c, so the game of each window is played by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.masking import MaskedValues
from Agg2ExpLib.methods.games.paired import PairedGame, exact_interactions
from Agg2ExpLib.methods.games.shapley import GAUSSIAN, ShapleyValues
from Agg2ExpLib.methods.kernelshap import KernelSHAP
from Agg2ExpLib.storage import write_table

#: Most supervoxels of a scan: pairs grow with their square.
MOST_PLAYERS = 20
COLUMNS = ("a", "b", "value", "standard_error")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Interactions of all pairs of supervoxels.

    Attributes
    ----------
    structure : str
        The class.
    names : tuple of str
        The supervoxels.
    values, errors : ndarray, shape (p, p)
        Symmetric, 0 on the diagonal, in logits; standard errors are 0 where every coalition was played.
    coalitions : int
        Played, of all windows together.
    """

    structure: str
    names: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    coalitions: int

    def rows(self) -> list[tuple[str, str, float, float]]:
        """Return the pairs with value and standard error, the strongest first."""
        first, second = np.triu_indices(len(self.names), 1)
        order = np.argsort(-np.abs(self.values[first, second]), kind="stable")
        return [
            (self.names[i], self.names[j], float(self.values[i, j]), float(self.errors[i, j]))
            for i, j in zip(first[order], second[order], strict=True)
        ]


def interactions(case: Case, name: str, method: KernelSHAP | None = None, reduction: str = "sum") -> Interactions:
    """Return how pairs of supervoxels act together on F_c.

    Parameters
    ----------
    case : Case
        Scan and model.
    name : str
        The class.
    method : KernelSHAP, optional
        Supervoxels, most coalitions, the standard error asked for and the seed; by default one supervoxel a structure and
        1024 coalitions, which are all of ten supervoxels.
    reduction : str
        The A of equation 2.

    Raises
    ------
    InputError
        A class that is not in the prediction, more than 20 supervoxels, or a method of another estimator or value.
    """
    method = method or KernelSHAP(samples=1024)
    if method.estimator != GAUSSIAN or method.value != "logit":
        raise InputError(f"interactions are estimated of the logit with estimator {GAUSSIAN!r}; leave both out")
    (aim,) = case.objectives([name], reduction)
    if not aim.voxels:
        raise InputError(f"{name} is not in the prediction, so nothing acts on it; choose another class")
    supervoxels = case.divide(method, None)
    if len(supervoxels.names) > MOST_PLAYERS:
        raise InputError(
            f"interactions take at most {MOST_PLAYERS} supervoxels, and here are {len(supervoxels.names)}; use fewer supervoxels"
        )
    number = next(n for n, part in enumerate(case.model.parts) if aim.class_index in part.classes)
    values = MaskedValues(case.stitched[number], [aim], supervoxels, passes=case.passes, progress=case.progress)
    games, _ = method.paired_games(values, True)
    players = len(supervoxels.names)
    first, second = np.triu_indices(players, 1)
    row = np.zeros((players, players), dtype=int)
    row[first, second] = np.arange(len(first))
    places = {key: row[place[:, None], place][np.triu_indices(len(place), 1)] for key, place in games.places.items()}
    games = replace(games, places=places, players=len(first), estimate=of_game)
    found, errors = np.zeros((players, players)), np.zeros((players, players))
    if games.games:
        summed = games.play(method.tolerance, case.progress)
        for target, one in ((found, summed.values), (errors, summed.errors)):
            target[first, second] = target[second, first] = one[:, 0]
    return Interactions(name, supervoxels.names, found, errors, games.coalitions)


def of_game(game: PairedGame) -> ShapleyValues:
    """Return the interactions of a game's pairs of players as far as it is played; exact when that is all of it."""
    if game.whole:
        found = exact_interactions(game.table())
        return ShapleyValues(found, np.zeros_like(found), game.full, game.empty, 2 * game.pairs + 2)
    return ShapleyValues(*game.interactions(), game.full, game.empty, 2 * game.pairs + 2)


def write_interactions(found: Interactions, path: str | Path) -> None:
    """Write all pairs as CSV, the strongest first.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_table(Path(path), COLUMNS, [[a, b, repr(value), repr(error)] for a, b, value, error in found.rows()])


def describe_interactions(found: Interactions, most: int = 10) -> str:
    """Return the strongest pairs as lines for people.

    Examples
    --------
    >>> pair = np.array([[0.0, -3.0], [-3.0, 0.0]])
    >>> print(describe_interactions(Interactions("aorta", ("heart", "trachea"), pair, abs(pair) / 10, 4)))
    What pairs add to the aorta together beyond what each adds alone; negative where one stands in for the other.
    heart                   trachea                      -3.000 +- 0.3
    """
    lines = [
        f"What pairs add to the {structure(found.structure).name} together beyond what each adds alone; "
        "negative where one stands in for the other."
    ]
    for a, b, value, error in found.rows()[:most]:
        lines.append(f"{structure(a).name:<24}{structure(b).name:<24}{value:>+11.3f} +- {error:.2g}")
    return "\n".join(lines)
