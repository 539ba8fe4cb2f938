"""The same games estimated by shap's KernelExplainer and by captum's KernelShap: second opinions, by option."""

from __future__ import annotations

from typing import Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.shap_import import import_shap
from Agg2ExpLib.methods.games.shapley import Design, Game, ShapleyValues, refuse_undecided, solve, standard_errors


def by_shap(game: Game, players: int, samples: int, ridge: float, seed: int) -> ShapleyValues:
    """Let shap choose, weigh and solve; all outputs at once. A ridge penalty is applied to shap's own coalitions.

    Raises
    ------
    InputError
        shap is not installed, or cannot be imported here; or its coalitions leave values undecided.
    """
    shap = import_shap()
    # shap draws from numpy's global state.
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        explainer = shap.KernelExplainer(lambda kept: game(kept > 0.5), np.zeros((1, players)))
        found = explainer.shap_values(np.ones((1, players)), nsamples=samples, l1_reg=False, silent=True)[0]
    finally:
        np.random.set_state(before)
    used = explainer.nsamplesAdded
    masks = np.asarray(explainer.maskMatrix)[:used] > 0.5
    full, empty = np.atleast_1d(explainer.fx).astype(float), np.atleast_1d(explainer.fnull).astype(float)
    design = Design(masks, np.array(explainer.kernelWeights)[:used], _pairs(masks))
    refuse_undecided(design, ridge, "shap")
    values = np.asarray(explainer.ey)[:used]
    whole = players <= 30 and used >= 2**players - 2
    errors = np.zeros((players, len(full))) if whole else standard_errors(design, values, full, empty, ridge)
    if ridge > 0:
        found = solve(design.masks, design.weights, values, full, empty, ridge)
    return ShapleyValues(np.asarray(found).reshape(players, -1), errors, full, empty, used + 2)


def _pairs(masks: np.ndarray) -> np.ndarray:
    """Number a coalition and the complement that follows it as one."""
    groups = np.zeros(len(masks), dtype=int)
    number = -1
    for row, mask in enumerate(masks):
        follows = row > 0 and groups[row - 1] != (groups[row - 2] if row > 1 else -1)
        if not (follows and np.array_equal(mask, ~masks[row - 1])):
            number += 1
        groups[row] = number
    return groups


class _Table:
    """Stands in for captum's linear model: it keeps the coalitions that captum drew, with their weights."""

    def __init__(self) -> None:
        self.masks: np.ndarray = np.zeros((0, 0), dtype=bool)
        self.weights: np.ndarray = np.zeros(0)

    def fit(self, train_data: Any, **_: Any) -> dict[str, float]:
        """Keep what captum hands over."""
        rows = [(masks.numpy(), weights.numpy()) for masks, _, weights in train_data]
        self.masks = np.concatenate([masks for masks, _ in rows]) > 0.5
        self.weights = np.concatenate([weights.ravel() for _, weights in rows]).astype(float)
        return {}

    def representation(self) -> Any:
        """Nothing of captum's; the solution follows for all outputs at once."""
        import torch

        return torch.zeros(self.masks.shape[1])


def by_captum(game: Game, players: int, samples: int, ridge: float, seed: int) -> ShapleyValues:
    """Let captum choose and weigh coalitions, once for all outputs; the regression is captum's, with a ridge if asked.

    Captum explains one output at a time. Its coalitions do not depend on the values, so they are drawn once, played
    once, and each output is fitted on them.

    Raises
    ------
    InputError
        captum is not installed.
    """
    import torch

    try:
        from captum.attr import KernelShap
    except ImportError as error:
        raise InputError(
            "estimator 'captum' needs captum; pip install captum, or use --estimator regression"
        ) from error
    table = _Table()
    played: dict[bytes, np.ndarray] = {}

    def forward(kept: torch.Tensor) -> torch.Tensor:
        masks = kept.numpy() > 0.5
        fresh = [mask for mask in {mask.tobytes(): mask for mask in masks}.values() if mask.tobytes() not in played]
        if fresh:
            for mask, value in zip(fresh, game(np.array(fresh)), strict=True):
                played[mask.tobytes()] = value
        return torch.tensor([float(played[mask.tobytes()][0]) for mask in masks])

    kernel = KernelShap(forward)
    kernel.interpretable_model = table
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Captum's own full and empty coalition are two of its samples. All are played in one call of the game.
        kernel.attribute(torch.ones(1, players), n_samples=samples + 2, perturbations_per_eval=samples + 2)
    inner = (table.masks.sum(axis=1) > 0) & (table.masks.sum(axis=1) < players)
    values = np.array([played[mask.tobytes()] for mask in table.masks])
    full, empty = (played[np.full(players, state).tobytes()] for state in (True, False))
    design = Design(table.masks[inner], table.weights[inner], np.arange(int(inner.sum())))
    refuse_undecided(design, ridge, "captum")
    # Captum weighs the two ends a million times; here they hold exactly.
    found = solve(design.masks, design.weights, values[inner], full, empty, ridge)
    errors = standard_errors(design, values[inner], full, empty, ridge)
    return ShapleyValues(found, errors, full, empty, len(played))
