"""Intensity transforms of MONAI that look at the whole scan: what one value becomes, with the scan's statistics held fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Values = tuple[np.ndarray, list[str]]


def normalised(arguments: Mapping[str, Any], scan: np.ndarray, values: np.ndarray) -> Values:
    """NormalizeIntensity: (value - mean) / standard deviation of the population; with ``nonzero`` zeros stay 0."""
    out, notes = values.copy(), []
    nonzero = bool(arguments.get("nonzero"))
    for channels, part in _groups(arguments, scan):
        inside = part[part != 0] if nonzero else part
        if not inside.size:
            continue
        mean = _given(arguments.get("subtrahend"), channels, bool(arguments.get("channel_wise")))
        spread = _given(arguments.get("divisor"), channels, bool(arguments.get("channel_wise")))
        if mean is None or spread is None:
            told = [] if mean is not None else [f"mean {_mean(inside):.6g}"]
            told += [] if spread is not None else [f"standard deviation {_spread(inside):.6g}"]
            over = " of its voxels that are not 0" if nonzero else ""
            notes.append(_note("NormalizeIntensity", " and ".join(told) + over, channels, scan))
        low = _mean(inside) if mean is None else mean
        scale = (_spread(inside) if spread is None else spread) or 1.0
        for channel in channels:
            if not (nonzero and values[channel] == 0):
                out[channel] = (values[channel] - low) / scale
    return out, notes


def scaled(arguments: Mapping[str, Any], scan: np.ndarray, values: np.ndarray) -> Values:
    """ScaleIntensity: the scan's minimum and maximum become ``minv`` and ``maxv``."""
    low, high = arguments.get("minv", 0.0), arguments.get("maxv", 1.0)
    if low is None and high is None:
        return values * (1 + (arguments.get("factor") or 0.0)), []
    out, notes = values.copy(), []
    for channels, part in _groups(arguments, scan):
        least, most = float(part.min()), float(part.max())
        notes.append(_note("ScaleIntensity", f"minimum {least:.6g} and maximum {most:.6g}", channels, scan))
        if least == most:
            out[channels] = values[channels] * low if low is not None else values[channels]
            continue
        out[channels] = (values[channels] - least) / (most - least)
        if low is not None and high is not None:
            out[channels] = out[channels] * (high - low) + low
    return out, notes


def ranged_by_percentiles(arguments: Mapping[str, Any], scan: np.ndarray, values: np.ndarray) -> Values:
    """ScaleIntensityRangePercentiles: two percentiles of the scan become ``b_min`` and ``b_max``."""
    lower, upper = float(arguments["lower"]), float(arguments["upper"])
    low, high = arguments.get("b_min"), arguments.get("b_max")
    if arguments.get("relative") and low is not None and high is not None:
        low, high = ((high - low) * share / 100.0 + low for share in (lower, upper))
    out, notes = values.copy(), []
    for channels, part in _groups(arguments, scan):
        least, most = _percentile(part, lower), _percentile(part, upper)
        notes.append(_note("ScaleIntensityRangePercentiles", f"percentiles {least:.6g} and {most:.6g}", channels, scan))
        if least == most:
            out[channels] = values[channels] - least + (low or 0.0)
            continue
        out[channels] = (values[channels] - least) / (most - least)
        if low is not None and high is not None:
            out[channels] = out[channels] * (high - low) + low
        if arguments.get("clip"):
            out[channels] = np.clip(out[channels], low, high)
    return out, notes


def clipped_by_percentiles(arguments: Mapping[str, Any], scan: np.ndarray, values: np.ndarray) -> Values:
    """ClipIntensityPercentiles: values beyond two percentiles of the scan become them, softly where it is so set."""
    from monai.transforms.utils import soft_clip

    out, notes = values.copy(), []
    sharpness = arguments.get("sharpness_factor")
    for channels, part in _groups(arguments, scan):
        ends = []
        for key, open_end in (("lower", 0.0), ("upper", 100.0)):
            share = arguments.get(key)
            known = share is not None or sharpness is None
            ends.append(_percentile(part, float(share) if share is not None else open_end) if known else None)
        told = " and ".join(f"{end:.6g}" for end in ends if end is not None)
        notes.append(_note("ClipIntensityPercentiles", f"percentiles {told}", channels, scan))
        if sharpness is None:
            out[channels] = np.clip(values[channels], ends[0], ends[1])
        else:
            out[channels] = np.asarray(
                soft_clip(values[channels].astype(np.float32), float(sharpness), ends[0], ends[1])
            )
    return out, notes


#: Transforms that look at the whole scan: (arguments, scan (C, i, j, k), values (C,)) -> what the values become, and notes.
STATISTICS: dict[str, Callable[[Mapping[str, Any], np.ndarray, np.ndarray], Values]] = {
    "NormalizeIntensity": normalised,
    "ScaleIntensity": scaled,
    "ScaleIntensityRangePercentiles": ranged_by_percentiles,
    "ClipIntensityPercentiles": clipped_by_percentiles,
}


def _groups(arguments: Mapping[str, Any], scan: np.ndarray) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the channels whose statistics are taken together, and their voxels."""
    if arguments.get("channel_wise"):
        yield from (([channel], part) for channel, part in enumerate(scan))
    else:
        yield list(range(len(scan))), scan


def _given(value: Any, channels: list[int], channel_wise: bool) -> float | None:
    if value is None:
        return None
    if channel_wise:
        return float(value[channels[0]])
    return float(np.asarray(value, dtype=np.float64).reshape(-1)[0])


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64))


def _spread(values: np.ndarray) -> float:
    return float(values.std(dtype=np.float64))


def _percentile(values: np.ndarray, share: float) -> float:
    import torch
    from monai.transforms.utils_pytorch_numpy_unification import percentile

    return float(percentile(torch.from_numpy(np.ascontiguousarray(values)), share))


def _note(name: str, what: str, channels: list[int], scan: np.ndarray) -> str:
    where = f" of channel {channels[0] + 1}" if len(channels) < len(scan) else ""
    return f"{name}: {what} of this scan{where} are held fixed while the prediction is explained"
