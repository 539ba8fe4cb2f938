"""One command for a machine with a GPU: does it answer as the processor does, and how much of the card is used?

    python Testing/benchmarks/gpu_check.py [--small]

Needs a CUDA build of torch, MONAI and numpy, nothing installed of this project. A random Swin UNETR (feature size 48, windows of
96^3, 17 classes) explains a random scan of 250^3: first one window on the processor and on the device, then the gradient of some
classes in float32, tf32, bfloat16. For each: seconds, windows a second, TFLOP/s reached beside what the card multiplies matrices
with, how busy the card was, peak memory, and the largest difference in RoI importance from float32. ``--small`` is a dry run with a
tiny network, on the processor too. About 5 minutes; what does not fit into ``--seconds`` is left out and said.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

#: What is run: name, precision, whether float32 products may be rounded to tf32.
RUNS = (("float32", "float32", False), ("tf32", "float32", True), ("bfloat16", "bfloat16", False))


def main(arguments=None):
    """Check, measure and print; 0 when the device answers as the processor does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="a dry run: tiny sizes")
    parser.add_argument("--classes", type=int, default=4, help="classes to explain (default 4)")
    parser.add_argument("--seconds", type=float, default=420, help="begin nothing after this long (default 420)")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()

    import torch

    from Agg2ExpLib.device import choose_device

    device = choose_device(options.device)
    on_gpu = device.type == "cuda"
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(device) if on_gpu else 'processor'}")
    model, scan = _model(options.small), _scan(30 if options.small else 250)
    worst = _against_processor(model, device)
    print(f"one window forward and backward: largest difference from the processor {worst:.1e} of the largest value\n")
    # In Swin UNETR a few units of another sign, where a bend meets rounding, make single voxels differ by a percent.
    good = worst < 0.05
    print(
        f"{'run':<10}{'batch':>6}{'passes':>8}{'seconds':>9}{'windows/s':>11}{'TFLOP/s':>9}{'card':>7}{'busy':>6}{'GiB':>6}{'error':>9}"
    )
    exact = None
    for name, precision, rounded in RUNS:
        if time.perf_counter() - begin > options.seconds:
            print(f"{name:<10} left out: {options.seconds:.0f} s are over")
            continue
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = rounded
        found = _run(model, scan, device, precision, options.classes)
        exact = found["mass"] if exact is None else exact
        error = float(np.nanmax(np.abs(found["mass"] - exact)))
        good &= error < (2e-3 if precision != "float32" or rounded else 1e-3)
        print(
            f"{name:<10}{found['batch']:>6}{found['passes']:>8}{found['seconds']:>9.1f}{found['windows']:>11.2f}"
            f"{found['tflops']:>9.2f}{found['card']:>7.1f}{found['busy']:>6}{found['gib']:>6.1f}{error:>9.0e}",
            flush=True,
        )
    print(f"\n{'all well' if good else 'NOT as it should be'}, {time.perf_counter() - begin:.0f} s")
    return 0 if good else 1


def _model(small):
    import torch
    from monai.networks.nets import SwinUNETR, UNet

    from Agg2ExpLib.models import Tiling, from_module

    torch.manual_seed(0)
    if small:
        network = UNet(3, 1, 4, channels=(4, 8), strides=(2,))
        side, classes = 16, 4
    else:
        network = SwinUNETR(in_channels=1, out_channels=17, feature_size=48, use_v2=True, spatial_dims=3)
        side, classes = 96, 17
    names = ["background", *(f"class {number}" for number in range(1, classes))]
    return from_module(network, classes=names, tiling=Tiling((side,) * 3, 0.25), removed=0.0)


def _scan(side):
    from Agg2ExpLib.volume import Grid, Volume

    rng = np.random.default_rng(0)
    blocks = np.kron(rng.random((5, 5, 5)), np.ones((-(-side // 5),) * 3))[:side, :side, :side]
    return Volume((blocks + 0.05 * rng.normal(size=blocks.shape)).astype(np.float32), Grid(blocks.shape, np.eye(4)))


def _against_processor(model, device):
    """Largest difference of a window's logits and gradient, in float32."""
    import torch

    from Agg2ExpLib.device import running

    answers = []
    for where in (torch.device("cpu"), device):
        network = model.parts[0].build(where, torch.float32)
        x = (
            torch.rand((1, 1, *model.card.window), generator=torch.Generator().manual_seed(1))
            .to(where)
            .requires_grad_(True)
        )
        with running("float32", where):
            logits = network(x)
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), x)
        answers.append([logits.detach().cpu(), gradient.cpu()])
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*answers, strict=True))


def _run(model, scan, device, precision, classes):
    """Explain some classes by their gradient; return the cost and the importance."""
    import torch

    from Agg2ExpLib.benchmark import matrix_rate, pass_gflop
    from Agg2ExpLib.case import Case
    from Agg2ExpLib.device import Compute
    from Agg2ExpLib.methods import Gradient

    on_gpu = device.type == "cuda"
    case = Case.open(scan, model, compute=Compute(str(device), precision))
    aims = sorted((aim for aim in case.objectives() if aim.voxels), key=lambda aim: -aim.voxels)[:classes]
    gflop = pass_gflop(case)
    card = matrix_rate(device, 8192 if on_gpu else 512, "bfloat16" if precision == "bfloat16" else "float32")
    case.passes.forward = case.passes.backward = 0
    busy = []
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize()
    begin = time.perf_counter()
    rows = []
    for one in case.attribute(Gradient(), objectives=aims):
        rows.append(one)
        busy.append(_busy(device))
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    passes = case.passes.forward + case.passes.backward
    known = [share for share in busy if share is not None]
    return {
        "mass": np.array([case.rois().row(one.channels, one.box)["mass"] for one in rows]),
        "batch": case.compute.windows_at_once,
        "passes": passes,
        "seconds": seconds,
        "windows": passes / seconds,
        "tflops": passes * gflop / seconds / 1e3,
        "card": card / 1e3,
        "busy": f"{np.mean(known):.0f}%" if known else "-",
        "gib": torch.cuda.max_memory_allocated(device) / 1024**3 if on_gpu else 0.0,
    }


def _busy(device):
    """Share of the last moments in which the card computed, in percent; None where it does not tell."""
    import torch

    try:
        return torch.cuda.utilization(device) if device.type == "cuda" else None
    except (RuntimeError, ModuleNotFoundError, AttributeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
