"""KernelSHAP over supervoxels (equation 6), all classes from the same coalitions.

F_c is a sum over windows, and Shapley values of a sum of games are the sums of their Shapley values. So the game may be
played *within each window* among the supervoxels that it holds (scope ``"window"``): fewer players need fewer
coalitions, each of one window only, and many games become small enough to play out. Scope ``"scan"`` is the paper's
one game over the scan. Both estimate the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Agg2ExpLib.case.objective import Objective
from Agg2ExpLib.case.segmentation import Network
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods import ESTIMATORS, MOST_EXACT, SCOPES
from Agg2ExpLib.methods.games.masking import MaskedValues
from Agg2ExpLib.methods.games.shapley import ShapleyValues, n_coalitions, shapley_values
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.methods.games.value_functions import PredictionValues, is_linear, restricted
from Agg2ExpLib.methods.games.value_store import ValueStore
from Agg2ExpLib.methods.gradients import Attribution, PassCount, SupervoxelValues
from Agg2ExpLib.progress import Progress


def attribute(
    network: Network,
    x: torch.Tensor,
    windows: Windows,
    objectives: Sequence[Objective],
    *,
    supervoxels: Supervoxels,
    samples: int = 200,
    estimator: str = "regression",
    scope: str = "window",
    ridge: float = 0.0,
    value: str = "logit",
    truth: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    n_classes: int = 0,
    voxel_ml: float = 1.0,
    seed: int = 0,
    batch_size: int = 1,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    names: Sequence[str] = (),
    progress: Progress | None = None,
    passes: PassCount | None = None,
    checkpoint: Path | None = None,
) -> Iterator[Attribution]:
    """Yield the attribution of each class that is present: every voxel has its supervoxel's Shapley value.

    Parameters
    ----------
    network, x, windows, objectives, batch_size, device, precision, progress, passes
        As :func:`Agg2ExpLib.methods.gradients.attribute`.
    supervoxels : Supervoxels
        The players.
    samples : int
        Coalitions of the whole scan. Within a window, as many in proportion to the supervoxels that it holds.
    estimator, scope, value : str
        Keys of :data:`~Agg2ExpLib.methods.ESTIMATORS`, :data:`~Agg2ExpLib.methods.SCOPES` and
        :data:`~Agg2ExpLib.methods.VALUE_FUNCTIONS`.
    ridge : float
        Penalty of the regression; 0 as in the paper's code.
    truth, prediction : ndarray of int, shape (i, j, k)
        True and first predicted classes, for value functions that need one.
    n_classes, voxel_ml
        The network's outputs, and the volume of a voxel in ml, for value functions that read the whole prediction.
    seed : int
        Of the coalitions.
    names : sequence of str
        Class names, for progress.
    checkpoint : Path, optional
        File that finished values are kept in, so that a stopped run goes on from them.

    Raises
    ------
    InputError
        Supervoxels of another grid, settings out of range, or too few samples for a solution.
    """
    supervoxels.check_grid(windows.volume_shape)
    _check(estimator, scope, ridge, samples)
    linear = is_linear(value)
    present = [objective for objective in objectives if objective.voxels]
    if linear:
        present = [o for o in restricted(present, value, truth, windows) if o.voxels]
    if not present:
        return
    progress, passes = progress or Progress(), passes or PassCount()
    identity = identity_of(present, supervoxels.labels, value)
    store = ValueStore(checkpoint, identity)
    shared = (network, windows, present, x, supervoxels.labels, len(supervoxels.names))
    run: dict[str, Any] = {
        "store": store,
        "device": device,
        "precision": precision,
        "batch_size": batch_size,
        "passes": passes,
        "progress": progress,
    }
    if linear:
        values = MaskedValues(*shared, **run)
    else:
        reference = truth if truth is not None else prediction
        if reference is None:
            raise InputError(f"value function {value!r} needs the first prediction or the truth to compare with")
        values = PredictionValues(
            *shared, value=value, reference=reference, n_classes=n_classes, voxel_ml=voxel_ml, **run
        )
    options = {"estimator": estimator, "ridge": ridge}
    try:
        if scope == "window" and linear:
            found = _by_window(values, samples, seed, options)
        else:
            found = _by_scan(values, samples, seed, options)
    finally:
        store.close()
    yield from spread(found, present, supervoxels)


def _check(estimator: str, scope: str, ridge: float, samples: int) -> None:
    for what, given, allowed in (("estimator", estimator, ESTIMATORS), ("scope", scope, SCOPES)):
        if given not in allowed:
            raise InputError(f"unknown {what} {given!r}: use {', '.join(allowed)}")
    if not 0.0 <= ridge < math.inf:
        raise InputError(f"the ridge penalty is {ridge:g}: it must be at least 0")
    if samples < 1:
        raise InputError(f"samples is {samples}: it must be at least 1")


def identity_of(objectives: Sequence[Objective], labels: np.ndarray, value: str) -> str:
    """Return what stored values depend on, beside the scan and the network."""
    digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
    return json.dumps([value, [objective.class_index for objective in objectives], digest])


def window_samples(samples: int, players: int, active: int) -> int:
    """Return a window's share of the samples: in proportion to its players among all that matter."""
    return math.ceil(samples * players / max(active, 1))


def _refuse_few(samples: int, players: int, estimator: str) -> None:
    if estimator != "exact" and samples <= players and not (players <= MOST_EXACT and 2**players - 2 <= samples):
        raise InputError(
            f"{samples} samples are too few for {players} supervoxels: "
            f"give at least {players + 1} with --samples, or use fewer supervoxels"
        )


def _by_window(values: MaskedValues, samples: int, seed: int, options: dict[str, object]) -> ShapleyValues:
    active = len(values.active)
    _refuse_few(samples, active, str(options["estimator"]))
    classes = len(values.objectives)
    total, variance = (np.zeros((values.n_supervoxels, classes)) for _ in range(2))
    full, empty = np.zeros(classes), np.zeros(classes)
    most = 0
    counts = {index: len(players) for index, players in values.players.items()}
    shares = {index: window_samples(samples, count, active) for index, count in counts.items()}
    planned = [n_coalitions(counts[index], shares[index], str(options["estimator"])) for index in counts]
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

        # Each window draws its own coalitions.
        own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint32)[0])
        found = shapley_values(game, len(players), shares[index], seed=own_seed, **options)  # type: ignore[arg-type]
        total[players - 1] += found.values
        variance[players - 1] += found.errors**2
        full, empty = full + found.full, empty + found.empty
        most = max(most, found.coalitions)
    return ShapleyValues(total, np.sqrt(variance), full, empty, most)


def _by_scan(values: MaskedValues, samples: int, seed: int, options: dict[str, object]) -> ShapleyValues:
    active = values.active
    _refuse_few(samples, len(active), str(options["estimator"]))
    planned = n_coalitions(len(active), samples, str(options["estimator"]))
    values.progress.stage("attributions", planned * len(values.relevant))

    def game(kept: np.ndarray) -> np.ndarray:
        everyone = np.ones((len(kept), values.n_supervoxels), dtype=bool)
        everyone[:, active - 1] = kept
        return values.of_scan(everyone, f"{len(active)} supervoxels")

    found = shapley_values(game, len(active), samples, seed=seed, **options)  # type: ignore[arg-type]
    total, errors = (np.zeros((values.n_supervoxels, len(values.objectives))) for _ in range(2))
    total[active - 1], errors[active - 1] = found.values, found.errors
    return ShapleyValues(total, errors, found.full, found.empty, found.coalitions)


def spread(found: ShapleyValues, objectives: Sequence[Objective], supervoxels: Supervoxels) -> Iterator[Attribution]:
    """Give each voxel its supervoxel's value."""
    everywhere = tuple(slice(0, size) for size in supervoxels.labels.shape)
    for column, objective in enumerate(objectives):
        table = SupervoxelValues(
            supervoxels.names,
            supervoxels.sizes,
            found.values[:, column],
            found.errors[:, column],
            float(found.full[column]),
            float(found.empty[column]),
            found.coalitions,
        )
        lookup = np.concatenate([[0.0], table.values]).astype(np.float32)
        yield Attribution(
            objective.class_index,
            everywhere,  # type: ignore[arg-type]
            lookup[supervoxels.labels],
            len(objective.windows),
            0,
            table.full,
            supervoxels=table,
        )
