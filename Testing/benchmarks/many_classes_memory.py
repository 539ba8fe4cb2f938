"""Peak memory of explaining a model of 117 classes on a scan of 300 x 300 x 400 voxels; see docs/performance.md.

``python -m Testing.benchmarks.many_classes_memory`` runs the whole of ``agg2exp explain`` in this process and prints one line. The
network is tiny, so that what is measured is everything beside it: logits, labels, attributions, importance, files.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

CLASSES = 117
# Network units apart: what tells one structure's blob from the next.
STEP = 4.0


def blobs(shape, count, seed=0):
    """Return a scan whose voxel values are STEP times the class; every class is one ellipsoid in a cell of its own."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(count ** (1 / 3)))
    cell = np.array(shape) // side
    values = np.zeros(shape, np.float32)
    for number, place in enumerate(rng.permutation(side**3)[:count]):
        corner = np.array(np.unravel_index(place, (side,) * 3)) * cell
        radii = cell * rng.uniform(0.15, 0.45, 3)
        steps = [((np.arange(n) - n / 2) / r) ** 2 for n, r in zip(cell, radii, strict=True)]
        inside = steps[0][:, None, None] + steps[1][:, None] + steps[2] < 1
        values[tuple(slice(c, c + n) for c, n in zip(corner, cell, strict=True))][inside] = STEP * (number + 1)
    return values


def model_of(count, window):
    """Return a model that smooths and then takes the class of the nearest value."""
    import torch

    from Agg2ExpLib.models import Tiling, from_module

    values = STEP * torch.arange(count + 1, dtype=torch.float32)
    smooth, nearest = torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Conv3d(1, count + 1, 1)
    with torch.no_grad():
        smooth.weight.fill_(1 / 27)
        smooth.bias.zero_()
        # The largest of 2 v x - v^2 is that of the nearest v.
        nearest.weight.copy_(2 * values.view(-1, 1, 1, 1, 1))
        nearest.bias.copy_(-(values**2))
    names = ["background", *(f"structure_{number + 1}" for number in range(count))]
    return from_module(torch.nn.Sequential(smooth, nearest), classes=names, tiling=Tiling((window,) * 3), removed=0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 300, 400))
    parser.add_argument("--window", type=int, default=96)
    parser.add_argument("--explain", type=int, default=5, help="classes whose gradient is taken; 0 is all")
    given = parser.parse_args()
    import torch

    from Agg2ExpLib.case.cost import process_peak
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.request import request_of
    from Agg2ExpLib.volume import Grid, Volume

    torch.set_num_threads(1)
    shape = tuple(given.shape)
    scan = Volume(blobs(shape, CLASSES), Grid(shape, np.diag([1.5, 1.5, 1.5, 1.0])))
    model = model_of(CLASSES, given.window)
    wanted = tuple(model.card.labels[1:][: given.explain or None])
    before = process_peak()
    with tempfile.TemporaryDirectory() as folder:
        found = explain(scan, model, Path(folder) / "out", request_of("gradient", classes=wanted, device="cpu"))
        present = int((found.importance.matrix("voxels")[0] > 0).sum()) - 1
        seconds = found.document["timings"]
    print(
        f"{' x '.join(map(str, shape))} voxels, {present} of {CLASSES} classes present, {len(found.explained)} explained: peak "
        f"{process_peak() / 1e9:.2f} GB ({before / 1e9:.2f} GB before) {seconds}"
    )
    return 0 if present == CLASSES else 1


if __name__ == "__main__":
    sys.exit(main())
