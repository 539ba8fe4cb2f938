"""Quality of an attribution: faithfulness, sensitivity and complexity (equations 8 to 10), with confidence intervals.

Attributions are normalised to a largest |E| of 1. The perturbed predictions that faithfulness needs depend on neither
the class nor the method, so they are made once (:func:`removal_effects`) and serve all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from Agg2ExpLib.errors import InputError

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.methods.games.masking import LinearValues

#: Measure -> (readable name, whether more is better, what it is).
MEASURES: dict[str, tuple[str, bool, str]] = {
    "faithfulness": ("faithfulness", True, "correlation of summed attribution with what removing the voxels changes"),
    "sensitivity": ("sensitivity", False, "change of the attribution under noise, relative to the scan's norm"),
    "complexity": ("complexity", False, "share of voxels with more than a tenth of the strongest attribution"),
    "efficiency": ("seconds", False, "seconds per class"),
}
#: The paper's settings: subsets, voxels in each, noisy copies, and the bound of their uniform noise.
SUBSETS, SUBSET_VOXELS, COPIES, NOISE_BOUND = 100, 224**2, 3, 0.1
COMPLEXITY_THRESHOLD = 0.1
CONFIDENCE = 0.95
_RESAMPLES = 1000
# Resampled, fewer noisy copies give no interval that covers.
_FEWEST_COPIES = 10


@dataclass(frozen=True)
class Measured:
    """A measure with its bootstrap confidence interval (NaN where there is nothing to resample)."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def normalised(values: np.ndarray) -> np.ndarray:
    """Return an attribution scaled to a largest |E| of 1.

    Raises
    ------
    InputError
        It is 0 everywhere, or not finite.

    Examples
    --------
    >>> normalised(np.array([1.0, -4.0])).tolist()
    [0.25, -1.0]
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        raise InputError("the attribution is 0 everywhere, so its quality cannot be measured; try another method")
    if not np.isfinite(largest):
        raise InputError("the attribution has values that are not finite numbers; try --precision float32")
    scaled: np.ndarray = values / largest
    return scaled


def random_subsets(n_voxels: int, size: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield random sets of voxel numbers; set n depends on the seed and n alone.

    Raises
    ------
    InputError
        Sets that are empty or hold the whole scan.
    """
    if count < 2:
        raise InputError(f"faithfulness is a correlation over {count} subsets: give at least 2 with --subsets")
    if not 0 < size < n_voxels:
        raise InputError(
            f"subsets of {size} voxels do not fit a scan of {n_voxels}: give a number between with --subset-voxels"
        )
    for number in range(count):
        yield np.random.default_rng([seed, number]).choice(n_voxels, size, replace=False, shuffle=False)


def removal_effects(values: LinearValues, x: torch.Tensor, subsets: Iterator[np.ndarray]) -> np.ndarray:
    """Return what removing each subset takes from F_c, for every class: ``F_c(x) - F_c(x with nothing in S)``.

    Parameters
    ----------
    values : LinearValues
        Of the classes.
    x : Tensor, shape (C, i, j, k)
        The prepared scan.
    subsets : iterator of ndarray
        Voxel numbers.

    Returns
    -------
    ndarray, shape (subsets, classes)
    """
    clean = values.of_volume(x, "unchanged")
    effects = []
    for number, subset in enumerate(subsets):
        # Indices on the same device, and a copy: the scan itself stays.
        changed = x.clone().reshape(len(x), -1)
        changed[:, subset] = values.stitched.removed[:, None].to(changed)
        effects.append(clean - values.of_volume(changed.reshape(x.shape), f"subset {number + 1}"))
    return np.array(effects)


def subset_sums(attributions: Sequence[np.ndarray], subsets: Iterator[np.ndarray]) -> np.ndarray:
    """Return ``sum_{v in S} E[v]`` for each subset and attribution, shape (subsets, attributions)."""
    flat = [values.ravel() for values in attributions]
    return np.array([[float(values[subset].sum(dtype=np.float64)) for values in flat] for subset in subsets])


def faithfulness(sums: np.ndarray, effects: np.ndarray, seed: int = 0) -> Measured:
    """Return the Pearson correlation of summed attributions with effects (equation 8); higher is better.

    Parameters
    ----------
    sums, effects : ndarray, shape (subsets,)
        Of :func:`subset_sums` and :func:`removal_effects`.
    seed : int
        Of the bootstrap over subsets.
    """
    return bootstrap(lambda rows: _pearson(sums[rows], effects[rows]), len(sums), seed)


def _pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation along the last axis; NaN without any spread."""
    first, second = (one - one.mean(axis=-1, keepdims=True) for one in (first, second))
    scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(scale > 0, (first * second).sum(axis=-1) / scale, np.nan)
    return found


def noisy_copies(x: torch.Tensor, count: int, bound: float, seed: int) -> Iterator[torch.Tensor]:
    """Yield copies of a scan with uniform noise within ``bound``, in network units; copy n depends on the seed and n alone."""
    import torch

    if count < 1 or not bound > 0:
        raise InputError(f"sensitivity needs at least 1 noisy copy and noise above 0, not {count} and {bound:g}")
    for number in range(count):
        state = int(np.random.SeedSequence([seed, number, 1]).generate_state(1, np.uint64)[0] >> 1)
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(state), dtype=torch.float32)
        yield x + ((2.0 * noise - 1.0) * bound).to(x)


def movement(clean: np.ndarray, noisy: np.ndarray, norm_of_scan: float) -> float:
    """Return ``||E(x) - E(x')||_2 / ||x||_2`` of the normalised attributions of a scan and of a noisy copy.

    Raises
    ------
    InputError
        ``||x||_2``, ``norm_of_scan``, is 0.
    """
    if norm_of_scan <= 0:
        raise InputError("the scan is 0 everywhere, so sensitivity cannot be measured; is it a CT in HU?")
    return float(np.sqrt(np.square(clean - noisy, dtype=np.float64).sum())) / norm_of_scan


def sensitivity(movements: Sequence[float], seed: int = 0) -> Measured:
    """Return the mean movement over noisy copies (equation 9); lower is better.

    The bootstrap resamples the copies; with fewer than ten of them (the paper has 3) there is no interval.
    """
    moved = np.asarray(movements)
    if len(moved) < _FEWEST_COPIES:
        return Measured(float(moved.mean()))
    return bootstrap(lambda rows: moved[rows].mean(axis=-1), len(moved), seed)


def complexity(values: np.ndarray) -> Measured:
    """Return the share of voxels with a normalised |E| above 0.1 (equation 10); lower is better.

    Examples
    --------
    >>> complexity(np.array([0.0, 0.05, -1.0, 0.2])).value
    0.5
    """
    return Measured(float((np.abs(values) > COMPLEXITY_THRESHOLD).mean()))


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], size: int, seed: int = 0) -> Measured:
    """Return a statistic of rows 0 to ``size`` - 1 with its percentile bootstrap interval (95 %).

    Parameters
    ----------
    statistic : callable
        Row numbers, shape (..., size), to values, shape (...).
    size : int
        Number of rows.
    seed : int
        Of the resampling.

    Examples
    --------
    >>> data = np.arange(100.0)
    >>> found = bootstrap(lambda rows: data[rows].mean(axis=-1), 100)
    >>> found.value, 40 < found.low < 49.5 < found.high < 60
    (49.5, True)
    """
    value = float(statistic(np.arange(size)))
    if size < 2 or not np.isfinite(value):
        return Measured(value)
    rng = np.random.default_rng(seed)
    drawn = statistic(rng.integers(0, size, (_RESAMPLES, size)))
    drawn = drawn[np.isfinite(drawn)]
    edge = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(drawn, [edge, 1.0 - edge]) if drawn.size else (np.nan, np.nan)
    return Measured(value, float(low), float(high))


def similarity(first: np.ndarray, second: np.ndarray, most: int = 200_000, seed: int = 0) -> float:
    """Return the Spearman correlation of two attributions' |E| over (a random sample of) the voxels.

    The number of the model-parameter randomisation check (Adebayo et al., Sanity Checks for Saliency Maps, 2018): an
    attribution of the trained network should be far from 1 against that of the same network with random weights.
    """
    from scipy.stats import rankdata

    pair = np.abs(np.stack([first.ravel(), second.ravel()]))
    if pair.shape[1] > most:
        pair = pair[:, np.random.default_rng(seed).choice(pair.shape[1], most, replace=False)]
    return float(_pearson(rankdata(pair[0]), rankdata(pair[1])))


def randomised_network(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return a copy of a network whose every parameter is drawn anew, with the mean and spread that it had."""
    import copy

    import torch

    other = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            old = parameter.float().cpu()
            spread = float(old.std(correction=0)) if old.numel() > 1 else float(old.abs().mean())
            parameter.copy_(old.mean() + spread * torch.randn(old.shape, generator=generator))
    return other
