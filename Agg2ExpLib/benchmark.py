"""``make benchmark``: what one explanation costs here, beside the plain way of computing it, in one run.

The plain way runs every window forward and backward for each class, as research code does. Both give the same
attributions (the largest difference is printed). Each variant runs in a process of its own, so that its peak memory
is its own. One structure is explained in two scans: the phantom as it is generated, cut close to the body so that
windows are few, and the same within the 500 mm of a scanner's whole field of view.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.volume import AIR_HU, Volume

ONE_STRUCTURE = "thyroid_gland"
#: Width of the scans, mm; 0 leaves the phantom as it is generated.
CUT_CLOSE, WHOLE_FIELD = 0.0, 500.0
_LIBRARY_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.benchmark", description=__doc__)
    parser.add_argument("--model", default="thorax-phantom")
    parser.add_argument("--spacing", type=float, default=3.0, help="spacing of the phantom, mm (default 3)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--classes", help=argparse.SUPPRESS)
    parser.add_argument("--field", type=float, default=CUT_CLOSE, help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.variant:
        print(json.dumps(_measure(options)))
        return 0
    return _compare(options)


def _compare(options: argparse.Namespace) -> int:
    print("vanilla gradient of a generated CT with the bundled model; a pass is one window forward or one backward\n")
    print(f"{'classes':<16}{'scan':<16}{'way':<10}{'windows run':>12}{'passes':>9}{'seconds':>10}{'peak MiB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for classes, field in ((ONE_STRUCTURE, WHOLE_FIELD), (ONE_STRUCTURE, CUT_CLOSE), ("structures", CUT_CLOSE)):
            files = [Path(folder) / f"{way}-{classes}-{field:g}.npz" for way in ("plain", "agg2exp")]
            plain, ours = (
                _child(options, way, classes, field, file)
                for way, file in zip(("plain", "agg2exp"), files, strict=True)
            )
            for way, found in (("plain", plain), ("agg2exp", ours)):
                scan = f"{'x'.join(map(str, found['shape']))}, {found['all_windows']}"
                print(
                    f"{classes:<16}{scan:<16}{way:<10}{found['windows']:>12}{found['passes']:>9}"
                    f"{found['seconds']:>10.1f}{found['peak_mib']:>10.0f}"
                )
            print(
                f"{'':<16}{plain['passes'] / ours['passes']:.1f} times fewer passes, "
                f"{plain['seconds'] / ours['seconds']:.1f} times faster; "
                f"largest relative difference {_difference(*files):.1e}\n",
                flush=True,
            )
    print("scan: voxels on the model's grid, and windows over them")
    return 0


def _child(options: argparse.Namespace, variant: str, classes: str, field: float, keep: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "Agg2ExpLib.benchmark",
        "--variant",
        variant,
        "--classes",
        classes,
        "--field",
        str(field),
        "--keep",
        str(keep),
        "--model",
        options.model,
        "--spacing",
        str(options.spacing),
        "--device",
        options.device,
    ]
    print(f"running {variant}, {classes} ...", file=sys.stderr, flush=True)
    path = os.pathsep.join(filter(None, [str(_LIBRARY_ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise Agg2ExpError(f"benchmark {variant} of {classes} failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _difference(plain: Path, ours: Path) -> float:
    """Largest difference of the two ways' attributions, relative to each class's strongest voxel."""
    with np.load(plain) as first, np.load(ours) as second:
        return max(float(np.abs(first[name] - second[name]).max() / np.abs(first[name]).max()) for name in first.files)


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run one variant and return what it cost, the segmentation (the same for both) left out."""
    import torch

    from Agg2ExpLib.case import Case
    from Agg2ExpLib.phantom import make_phantom

    scan = _widened(make_phantom(seed=2024, index=1, spacing=options.spacing).image, options.field)
    case = Case.open(scan, options.model, device=options.device)
    device = torch.device(case.compute.device)
    labels = case.labels[1:] if options.classes == "structures" else (options.classes,)
    aims = [aim for aim in case.objectives(labels) if aim.voxels]
    begin = time.perf_counter()
    way = _plain if options.variant == "plain" else _ours
    result, run, passes = way(case, aims)
    seconds = time.perf_counter() - begin
    maps: dict[str, Any] = {case.labels[index]: values for index, values in result.items()}
    np.savez(options.keep, **maps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1024**2
    return {
        "windows": run,
        "all_windows": case.n_windows,
        "shape": case.prepared.shape,
        "passes": passes,
        "seconds": seconds,
        "peak_mib": peak,
    }


def _widened(scan: Volume, field: float) -> Volume:
    """Surround a scan with air left, right, in front and behind, up to a field of view of ``field`` mm."""
    from Agg2ExpLib.volume import Grid

    sides = [max(round((field / step - size) / 2), 0) for step, size in zip(scan.spacing, scan.shape, strict=True)]
    sides[2] = 0
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(sides)
    voxels = np.pad(scan.voxels, [(side, side) for side in sides], constant_values=AIR_HU)
    return Volume(voxels, Grid(voxels.shape, affine))


def _ours(case: Any, aims: Sequence[Any]) -> tuple[dict[int, np.ndarray], int, int]:
    from Agg2ExpLib.methods import Gradient

    results = case.attribute(Gradient(), objectives=aims)
    maps = {one.class_index: one.full(case.prepared.shape) for one in results}
    return maps, case.passes.forward, case.passes.forward + case.passes.backward


def _plain(case: Any, aims: Sequence[Any]) -> tuple[dict[int, np.ndarray], int, int]:
    """Every window, one class at a time."""
    import torch

    from Agg2ExpLib.case.objective import output_gradient

    stitched = case.stitched[0]
    windows, padded = stitched.windows, stitched.padded(stitched.x)
    maps, run = {}, 0
    for aim in aims:
        total = torch.zeros_like(padded[0])
        for index in range(len(windows)):
            part = stitched.batch(padded, [index]).requires_grad_(True)
            logits = stitched.run(part)[0, aim.channel]
            (gradient,) = torch.autograd.grad((logits * output_gradient(stitched, aim, index)).sum(), part)
            total[windows.slices(index)] += gradient[0, 0]
            run += 1
        maps[aim.class_index] = windows.unpad(total).cpu().numpy()
    return maps, run, 2 * run


if __name__ == "__main__":
    sys.exit(main())
