"""Attributions of a network over windows, asked for in one call: what many tests begin with."""

import numpy as np
import torch

from Agg2ExpLib.case.attribution import PassCount
from Agg2ExpLib.case.segmentation import segment
from Agg2ExpLib.case.segmentation import stitched_logits as logits_of
from Agg2ExpLib.case.stitched import StitchedNetwork
from Agg2ExpLib.device import Compute
from Agg2ExpLib.methods import Context, method_of
from Agg2ExpLib.progress import Progress

COMPUTE = ("device", "precision", "batch_size", "memory_budget")
CONTEXT = ("segmentation", "truth", "grey", "regions", "names", "spacing", "supervoxels", "checkpoint")


def stitched_of(network, x, windows, removed=0.0, names=(), **compute):
    """Return a network over a scan; nothing is 0 unless said."""
    channels = x.shape[0] if x.ndim == 4 else 1
    values = torch.as_tensor(np.broadcast_to(removed, (channels,)).copy())
    return StitchedNetwork(network, x, windows, values, Compute(**{"device": "cpu", **compute}), names)


def predict(network, x, windows, count, **compute):
    """Return the segmentation of a scan by a network of ``count`` classes."""
    extra = {key: compute.pop(key) for key in ("progress", "buffer_bytes", "decision", "keep_logits") if key in compute}
    return segment(stitched_of(network, x, windows, **compute), range(count), **extra)


def stitched_logits(network, x, windows, count, **compute):
    """Return the stitched logits [K, i, j, k]."""
    return logits_of(stitched_of(network, x, windows, **compute), count)


def attribute(
    network, x, windows, objectives, *, method="smoothgrad", passes=None, progress=None, removed=0.0, **options
):
    """Yield attributions by a method; what is no option of it goes to the computation or the context."""
    compute = {key: options.pop(key) for key in COMPUTE if key in options}
    context = {key: options.pop(key) for key in CONTEXT if key in options and options[key] is not None}
    if "kind" in options:
        options["supervoxels"] = options.pop("kind")
    names = context.get("names", ())
    stitched = stitched_of(network, x, windows, removed, names, **compute)
    context = Context(progress=progress or Progress(), passes=passes or PassCount(), **context)
    yield from method_of(method, **options).attribute(stitched, objectives, context)
