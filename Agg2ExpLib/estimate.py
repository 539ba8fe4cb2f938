"""What an explanation will cost, told before it is started and without preparing the scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from Agg2ExpLib.case.case import read_images
from Agg2ExpLib.case.cost import Estimate, cost_of
from Agg2ExpLib.models import Model
from Agg2ExpLib.request import Request
from Agg2ExpLib.volume import Volume


def estimate(
    image: str | Path | Volume | Sequence[str | Path | Volume], model: Model, request: Request | None = None
) -> Estimate:
    """Time one window on the device and count what the whole would take.

    Parameters
    ----------
    image : path or Volume, or several, one a channel
        The scan; only its grid matters where the model can tell its own grid from that.
    model : Model
        Its first network is moved to the device.
    request : Request
        Method, classes, device, precision.

    Raises
    ------
    InputError
        As :func:`Agg2ExpLib.explanation.run.explain`.
    """
    request = request or Request()
    classes = len(request.class_indices(model.card.labels))
    images = read_images(image, model)
    grid_of = getattr(model, "grid_of", None)
    grid = grid_of(images) if grid_of else model.prepare(images).grid
    return cost_of(model, grid.shape, request.method, classes, request.compute)


def describe_estimate(found: Estimate) -> str:
    """Return an estimate as lines for people.

    Examples
    --------
    >>> print(describe_estimate(Estimate(8, 2, 1, 12, 40, 3.1, 95.0, 1024**3, "cpu")))
    8 windows, 2 classes, 12 to 40 network passes
    3.1 s to 1 min 35 s and about 1.0 GiB on cpu
    """
    from Agg2ExpLib.report import clock

    return (
        f"{found.windows} windows, {found.classes} classes, {found.passes_at_least} to {found.passes_at_most} network passes\n"
        f"{clock(found.seconds_at_least)} to {clock(found.seconds_at_most)} and about "
        f"{found.memory_bytes / 1024**3:.1f} GiB on {found.device}"
    )
