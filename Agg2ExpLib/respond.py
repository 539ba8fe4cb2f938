"""How would all structures answer if a region were brighter, or gone? To first order, for every class at once.

The response of F_c to a change d of the scan is sum_v dF_c/dx[v] d[v]. Forward-mode differentiation gives it for all classes by
one Jacobian-vector product of each window, where gradients need a backward pass for each class; it is exact for the stitched
prediction, and a window that the region does not touch is not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.autograd import forward_ad

from Agg2ExpLib.case.case import Case
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.case.windows import Windows
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.masking import LinearValues
from Agg2ExpLib.storage import write_table

#: Change of the region -> what it is.
CHANGES: dict[str, str] = {
    "brighter": "every voxel of the region brighter by one network unit (for CT the model's whole range of HU)",
    "gone": 'every voxel of the region what stands for "nothing is there" in the model: air in CT',
}
COLUMNS = ("class", "response", "value")


@dataclass(frozen=True)
class Response:
    """How classes answer a small change in a direction.

    Attributes
    ----------
    classes : tuple of str
        Those that are present, in the model's order.
    values : ndarray, shape (classes,)
        sum_v dF_c/dx[v] d[v], in logits: what F_c gains by the whole change if it went on as it begins.
    before : ndarray, shape (classes,)
        F_c at the scan.
    windows_run : int
        Windows that the region touches and that hold a class.
    """

    classes: tuple[str, ...]
    values: np.ndarray
    before: np.ndarray
    windows_run: int


def respond(
    case: Case,
    region: np.ndarray,
    change: str = "brighter",
    classes: Sequence[str | int] | None = None,
    reduction: str = "mean",
) -> Response:
    """Return the signed response of classes to a region.

    Parameters
    ----------
    case : Case
        Scan and model.
    region : ndarray of bool, shape (i, j, k)
        On the model's grid.
    change : str
        One of :data:`CHANGES`.
    classes : sequence of str or int, optional
        Names or indices; every class but background by default.
    reduction : str
        The A of equation 2; by default the mean logit over a class's voxels, so that large and small classes compare.

    Raises
    ------
    InputError
        An unknown change or class, an empty region, or a network with an operation that has no forward-mode derivative.
    """
    if change not in CHANGES:
        raise InputError(f"unknown change {change!r}: use {', '.join(CHANGES)}")
    if region.shape != case.prepared.shape or not region.any():
        raise InputError(
            f"the region of shape {region.shape} has no voxel within the scan of shape {case.prepared.shape}; "
            "give a mask on the model's grid"
        )
    aims = [aim for aim in case.objectives(classes, reduction) if aim.voxels]
    found: dict[int, float] = {}
    run = 0
    for stitched, part in zip(case.stitched, case.model.parts, strict=True):
        mine = LinearValues(stitched, [aim for aim in aims if aim.class_index in part.classes], passes=case.passes)
        inside = torch.from_numpy(region).to(stitched.device)
        step = torch.ones_like(stitched.x) if change == "brighter" else stitched.nothing() - stitched.x
        direction = stitched.windows.pad(torch.where(inside, step, 0.0), 0.0)
        padded, total = stitched.padded(stitched.x), np.zeros(len(mine.objectives))
        touched = set(_touched(stitched.windows, direction))
        needed = [index for index in mine.relevant if index in touched]
        case.progress.stage("response", len(needed))
        for indices, tangents in stitched.in_batches(needed, partial(_push, stitched, padded, direction)):
            for index, tangent in zip(indices, tangents, strict=True):
                total += mine.take(index, tangent[None])[0]
            case.passes.forward += len(indices)
            case.progress.advance(len(indices))
        run += len(needed)
        found.update(zip((aim.class_index for aim in mine.objectives), total, strict=True))
    return Response(
        tuple(case.labels[aim.class_index] for aim in aims),
        np.array([found[aim.class_index] for aim in aims]),
        np.array([aim.value for aim in aims]),
        run,
    )


def _touched(windows: Windows, direction: torch.Tensor) -> list[int]:
    """Windows in which something changes, the padding that repeats an edge included."""
    changed = (direction != 0).any(dim=0)
    return [index for index in range(len(windows)) if bool(changed[windows.slices(index)].any())]


def _push(stitched: StitchedNetwork, padded: torch.Tensor, direction: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """Return the derivative of some windows' logits along a direction."""
    batch, tangent = stitched.batch(padded, indices), stitched.batch(direction, indices)
    try:
        with torch.no_grad(), forward_ad.dual_level():
            answer = forward_ad.unpack_dual(stitched.run(forward_ad.make_dual(batch, tangent))).tangent
    except (NotImplementedError, RuntimeError) as error:
        if not any(words in str(error) for words in ("forward AD", "forward mode AD")):
            raise
        raise InputError(
            f"the network has an operation without a forward-mode derivative ({str(error).splitlines()[0]}); use agg2exp whatif"
        ) from error
    # Where nothing depends on the input, there is no tangent.
    return torch.zeros_like(stitched.run(batch)) if answer is None else answer


def write_response(found: Response, path: str | Path) -> None:
    """Write a response as CSV.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    rows = zip(found.classes, found.values, found.before, strict=True)
    write_table(Path(path), COLUMNS, [[name, repr(float(value)), repr(float(before))] for name, value, before in rows])


def describe_response(found: Response) -> str:
    """Return a response as lines for people, the strongest first.

    Examples
    --------
    >>> print(describe_response(Response(("heart", "aorta"), np.array([0.5, -2.0]), np.array([6.0, 8.0]), 3)))
    structure                     response       now
    aorta                           -2.000     8.000
    heart                           +0.500     6.000
    """
    lines = [f"{'structure':<26}{'response':>12}{'now':>10}"]
    for row in np.argsort(-np.abs(found.values)):
        lines.append(f"{found.classes[row]:<26}{found.values[row]:>+12.3f}{found.before[row]:>10.3f}")
    return "\n".join(lines)
