"""``make benchmark``: what explanations cost here, in one run: the plain way, captum's, and ours, against float64.

The plain way runs every window forward and backward for each class and each sample, one window at a time, as research code does;
captum's differentiates the undivided sliding-window prediction (or plays its coalitions over the whole scan), one class at a time.
Each runs in a process of its own, so that its peak memory is its own, and measures there how fast the processor multiplies
matrices: passes times the FLOPs of a pass, over that rate, is the floor that no way can go below. One structure is explained in the
500 mm of a scanner's whole field of view, and all structures in the phantom as it is generated, cut close to the body.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.case.cost import process_peak
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.volume import AIR_HU, Volume

if TYPE_CHECKING:
    import torch

    from Agg2ExpLib.case import Case
    from Agg2ExpLib.methods import Method

ONE_STRUCTURE, STRUCTURES = "thyroid_gland", "structures"
#: Width of the scans, mm; 0 leaves the phantom as it is generated.
CUT_CLOSE, WHOLE_FIELD = 0.0, 500.0
#: Points of SmoothGrad and of integrated gradients, and coalitions of KernelSHAP.
POINTS, COALITIONS = 2, 32
METHODS = ("gradient", "smoothgrad", "integrated-gradients", "kernelshap")
WAYS = ("plain", "captum", "agg2exp")
_LIBRARY_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.benchmark", description=__doc__)
    parser.add_argument("--model", default="thorax-phantom")
    parser.add_argument("--spacing", type=float, default=3.0, help="spacing of the phantom, mm (default 3)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--methods", default=",".join(METHODS), help="default: all four")
    parser.add_argument("--classes", default=f"{ONE_STRUCTURE},{STRUCTURES}", help="default: one structure, then all")
    parser.add_argument("--ways", default=",".join(WAYS), help="default: all three")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(_measure(options)))
        return 0
    return _compare(options)


def _compare(options: argparse.Namespace) -> int:
    print("a pass is one window forward, or one backward; share: of the rate at which matrices are multiplied here")
    print(f"SmoothGrad and integrated gradients of {POINTS} points, KernelSHAP of {COALITIONS} coalitions\n")
    print(
        f"{'method':<21}{'classes':<15}{'way':<9}{'passes':>7}{'CPU s':>9}{'seconds':>9}{'GFLOP/s':>9}{'share':>7}"
        f"{'MiB':>7}{'error':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for classes in options.classes.split(","):
            for method in options.methods.split(","):
                exact = _child(options, "float64", method, classes, Path(folder))
                for way in options.ways.split(","):
                    # Of captum's, one structure says it: a class costs as much as another.
                    if way == "captum" and classes == STRUCTURES:
                        continue
                    found = _child(options, way, method, classes, Path(folder))
                    rate = found["passes"] * found["gflop"] / found["processor"]
                    print(
                        f"{method:<21}{classes:<15}{way:<9}{found['passes']:>7}{found['processor']:>9.1f}"
                        f"{found['seconds']:>9.1f}{rate:>9.1f}{rate / found['rate']:>7.0%}{found['peak_mib']:>7.0f}"
                        f"{_difference(exact, found):>9.0e}",
                        flush=True,
                    )
    print("\nCPU s: of all cores together; error: largest difference in RoI importance from ours in float64")
    return 0


def _child(options: argparse.Namespace, way: str, method: str, classes: str, folder: Path) -> dict[str, Any]:
    keep = folder / f"{way}-{method}-{classes}.npz"
    command = [sys.executable, "-m", "Agg2ExpLib.benchmark", "--child", way, "--methods", method, "--classes", classes]
    command += ["--keep", str(keep), "--model", options.model, "--spacing", str(options.spacing)]
    command += ["--device", options.device, "--precision", "float64" if way == "float64" else options.precision]
    print(f"running {method}, {classes}, {way} ...", file=sys.stderr, flush=True)
    path = os.pathsep.join(filter(None, [str(_LIBRARY_ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise Agg2ExpError(f"benchmark {way} of {method} failed: {done.stderr.strip().splitlines()[-1:]}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "table": keep}


def _difference(exact: dict[str, Any], found: dict[str, Any]) -> float:
    """Largest difference of RoI importance, a share of 1."""
    with np.load(exact["table"]) as first, np.load(found["table"]) as second:
        return float(np.nanmax(np.abs(first["mass"] - second["mass"])))


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run one variant and return what it cost, the segmentation (the same for all) left out."""
    import torch

    from Agg2ExpLib.case import Case
    from Agg2ExpLib.device import keep_freed_memory
    from Agg2ExpLib.phantom import make_phantom

    ours = options.child in ("agg2exp", "float64")
    if ours:
        # As the command and the panel do.
        keep_freed_memory()
    everything = options.classes == STRUCTURES
    scan = widened(
        make_phantom(seed=2024, index=1, spacing=options.spacing).image, CUT_CLOSE if everything else WHOLE_FIELD
    )
    case = Case.open(scan, options.model, device=options.device, precision=options.precision)
    device = torch.device(case.compute.device)
    method = _method(options.methods, options.child)
    aims = [aim for aim in case.objectives(None if everything else [options.classes]) if aim.voxels]
    rate, gflop = matrix_rate(device), pass_gflop(case)
    begin, worked, before = time.perf_counter(), time.process_time(), case.passes.forward + case.passes.backward
    if ours or method.removes_supervoxels:
        # Captum's coalitions, and the plain way's, are played for one class at a time.
        turns = [aims] if ours else [[aim] for aim in aims]
        rows = [row for turn in turns for row in case.attribute(method, objectives=turn)]
        maps = {row.class_index: row.full(case.prepared.shape) for row in rows}
        passes = case.passes.forward + case.passes.backward - before
    else:
        way = _captum if options.child == "captum" else _plain
        maps, passes = way(case, method, aims)
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds, processor = time.perf_counter() - begin, time.process_time() - worked
    rois = case.rois()
    i, j, k = (slice(0, size) for size in case.prepared.shape)
    np.savez(options.keep, mass=np.array([rois.row(maps[aim.class_index], (i, j, k))["mass"] for aim in aims]))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else process_peak()
    # Of a GPU the processor's time says nothing.
    cost = {"seconds": seconds, "processor": seconds if device.type == "cuda" else processor}
    return {**cost, "passes": passes, "gflop": gflop, "rate": rate, "peak_mib": peak / 1024**2}


def _method(name: str, way: str) -> Method:
    from Agg2ExpLib.methods import method_of

    if name == "kernelshap":
        scan = {"scope": "scan"} if way in ("plain", "captum") else {}
        return method_of(name, samples=COALITIONS, estimator="captum" if way == "captum" else "regression", **scan)
    samples: dict[str, Any] = {} if name == "gradient" else {"samples": POINTS}
    return method_of(name, **samples, path="uniform" if name == "integrated-gradients" else None)


def widened(scan: Volume, field: float) -> Volume:
    """Surround a scan with air left, right, in front and behind, up to a field of view of ``field`` mm."""
    from Agg2ExpLib.volume import Grid

    sides = [max(round((field / step - size) / 2), 0) for step, size in zip(scan.spacing, scan.shape, strict=True)]
    sides[2] = 0
    affine = scan.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(sides)
    voxels = np.pad(scan.voxels, [(side, side) for side in sides], constant_values=AIR_HU)
    return Volume(voxels, Grid(voxels.shape, affine))


def matrix_rate(device: torch.device, side: int = 1536, precision: str = "float32") -> float:
    """Return how many GFLOP a second this device multiplies matrices with: the best of some tries, of the threads in use."""
    import torch

    on_gpu = device.type == "cuda"
    left, right = (torch.rand(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    clock = time.perf_counter if on_gpu else time.process_time
    best = float("inf")
    for _ in range(8):
        begin = clock()
        left @ right
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, clock() - begin)
    return 2 * side**3 / best / 1e9


def pass_gflop(case: Case) -> float:
    """Return the GFLOP of one window forward; a backward pass to the input has as many."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    stitched = case.stitched[0]
    batch = stitched.batch(stitched.padded(stitched.x), [0])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        stitched.network(batch)
    return counter.get_total_flops() / 1e9


def _points(case: Case, method: Any) -> list[torch.Tensor]:
    """Where the plain way takes gradients."""
    x, nothing = case.stitched[0].x, case.stitched[0].nothing()
    if method.id == "gradient":
        return [x]
    if method.id == "smoothgrad":
        return [method.noisy(x, number) for number in range(POINTS)]
    return [nothing + (x - nothing) * ((number + 0.5) / POINTS) for number in range(POINTS)]


def _plain(case: Case, method: Method, aims: Sequence[Any]) -> tuple[dict[int, np.ndarray], int]:
    """Every window, one class and one sample at a time."""
    import torch

    from Agg2ExpLib.case.objective import output_gradient

    stitched = case.stitched[0]
    windows, maps, run = stitched.windows, {}, 0
    for aim in aims:
        total = torch.zeros_like(stitched.padded(stitched.x)[0])
        for point in _points(case, method):
            padded = stitched.padded(point)
            for index in range(len(windows)):
                part = stitched.batch(padded, [index]).requires_grad_(True)
                logits = stitched.network(part)[0, aim.channel]
                (gradient,) = torch.autograd.grad((logits * output_gradient(stitched, aim, index)).sum(), part)
                total[windows.slices(index)] += gradient[0, 0]
                run += 2
        mean = windows.unpad(total) / len(_points(case, method))
        if method.id == "integrated-gradients":
            mean = mean * (stitched.x - stitched.nothing())[0]
        maps[aim.class_index] = mean.cpu().numpy()
    return maps, run


def _captum(case: Case, method: Method, aims: Sequence[Any]) -> tuple[dict[int, np.ndarray], int]:
    """Captum's methods of the undivided sliding-window prediction."""
    import torch
    from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
    from monai.inferers import sliding_window_inference

    stitched = case.stitched[0]
    windows, network, maps, run = stitched.windows, stitched.network, {}, [0]

    def counted(batch: torch.Tensor) -> torch.Tensor:
        run[0] += 2 * len(batch)
        return network(batch)

    for aim in aims:
        weight = torch.zeros(windows.volume_shape, dtype=stitched.dtype, device=stitched.device)
        weight[aim.box] = torch.from_numpy(aim.weight).to(weight)

        def answer(x: torch.Tensor, weight: torch.Tensor = weight, channel: int = aim.channel) -> torch.Tensor:
            logits: Any = sliding_window_inference(x, windows.window, 1, counted, windows.overlap, windows.blending)
            return (logits[:, channel] * weight).sum(dim=(1, 2, 3))

        x, nothing = stitched.x[None], stitched.nothing()[None]
        if method.id == "gradient":
            found = Saliency(answer).attribute(x, abs=False)
        elif method.id == "smoothgrad":
            # With noise of its own.
            spread = 0.1 * float(x.max() - x.min())
            tunnel = NoiseTunnel(Saliency(answer))
            found = tunnel.attribute(x, "smoothgrad", POINTS, nt_samples_batch_size=1, stdevs=spread, abs=False)
        else:
            ways = {"n_steps": POINTS, "method": "riemann_middle", "internal_batch_size": 1}
            found = IntegratedGradients(answer).attribute(x, nothing, **ways)
        maps[aim.class_index] = found[0, 0].detach().cpu().numpy()
    return maps, run[0]


if __name__ == "__main__":
    sys.exit(main())
