"""``make benchmark``: what one explanation costs here, beside the plain way of computing it, in one run.

The plain way runs every window forward and backward for each class, as research code does. Both give the same
attributions (the largest difference is printed). Each variant runs in a process of its own, so that its peak memory
is its own.
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

ONE_STRUCTURE = "thyroid_gland"
_LIBRARY_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.benchmark", description=__doc__)
    parser.add_argument("--model", default="thorax-phantom")
    parser.add_argument("--spacing", type=float, default=3.0, help="spacing of the phantom, mm (default 3)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--classes", help=argparse.SUPPRESS)
    parser.add_argument("--keep", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.variant:
        print(json.dumps(_measure(options)))
        return 0
    return _compare(options)


def _compare(options: argparse.Namespace) -> int:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for classes in (ONE_STRUCTURE, "structures"):
            pair = [_child(options, variant, classes, Path(folder)) for variant in ("plain", "agg2exp")]
            rows.append((classes, *pair))
            difference = _difference(*(Path(folder) / f"{v}-{classes}.npz" for v in ("plain", "agg2exp")))
            rows[-1] = (*rows[-1], difference)
    print("vanilla gradient of a generated CT with the bundled model; a pass is one window forward or one backward\n")
    print(f"{'classes':<16}{'way':<10}{'windows run':>12}{'passes':>9}{'seconds':>10}{'peak MiB':>10}")
    for classes, plain, ours, difference in rows:
        for way, found in (("plain", plain), ("agg2exp", ours)):
            print(
                f"{classes:<16}{way:<10}{found['windows']:>12}{found['passes']:>9}"
                f"{found['seconds']:>10.1f}{found['peak_mib']:>10.0f}"
            )
        print(
            f"{'':<16}{plain['passes'] / ours['passes']:.1f} times fewer passes, "
            f"{plain['seconds'] / ours['seconds']:.1f} times faster; largest relative difference {difference:.1e}\n"
        )
    return 0


def _child(options: argparse.Namespace, variant: str, classes: str, folder: Path) -> dict[str, Any]:
    keep = folder / f"{variant}-{classes}.npz"
    command = [
        sys.executable, "-m", "Agg2ExpLib.benchmark", "--variant", variant, "--classes", classes, "--keep", str(keep),
        "--model", options.model, "--spacing", str(options.spacing), "--device", options.device,
    ]
    print(f"running {variant}, {classes} ...", file=sys.stderr, flush=True)
    path = os.pathsep.join(filter(None, [str(_LIBRARY_ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise Agg2ExpError(f"benchmark {variant} of {classes} failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
