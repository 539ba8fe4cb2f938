"""``python -m Agg2ExpLib.studies.throughput``: how much faster several workers are than one, measured on phantoms.

One run explains the phantoms with one worker of one thread, another with several workers of one thread each, both in
processes of their own and into empty folders. Two ratios are printed: of the whole runs, start of processes and loading of
the model included, and of the cases alone, from the start of the first to the end of the last. The second is what a long
run comes to; the first is what one waits for. On a machine that is busy with something else neither says much, so what
else runs is printed too.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import Agg2ExpError, InputError

_LIBRARY_ROOT = Path(__file__).resolve().parents[2]
# Every library that counts threads for itself; torch and ITK are told by the worker.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
#: Other work on the machine, in cores, from which on a measurement is called doubtful.
BUSY = 0.3


@dataclass(frozen=True)
class Run:
    """What one run took.

    Attributes
    ----------
    workers, cases : int
        Processes, and cases explained.
    whole : float
        Seconds from the start of the process to the tables, start-up and all.
    working : float
        Seconds from the start of the first case to the end of the last.
    per_case : float
        Mean seconds of a case on its worker.
    """

    workers: int
    cases: int
    whole: float
    working: float
    per_case: float


def ratios(one: Run, several: Run) -> tuple[float, float]:
    """Return how many times more cases a second several workers do than one: of whole runs, and of the cases alone.

    Examples
    --------
    >>> ratios(Run(1, 8, 90.0, 80.0, 10.0), Run(2, 8, 60.0, 42.0, 10.5))
    (1.5, 1.9047619047619047)
    """
    more = several.cases / one.cases
    return more * one.whole / several.whole, more * one.working / several.working


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 when it could be measured, whatever came out."""
    parser = argparse.ArgumentParser(prog="python -m Agg2ExpLib.studies.throughput", description=__doc__)
    parser.add_argument("--model", default="thorax-phantom", help="bundled name or model folder")
    parser.add_argument("--cases", type=int, default=8, metavar="N", help="phantoms to explain (default 8)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes to compare with one (default 2)")
    parser.add_argument("--spacing", type=float, default=6.0, help="of the phantoms, mm (default 6)")
    parser.add_argument("--method", default="gradient")
    parser.add_argument("--samples", type=int, metavar="N", help="of the method")
    parser.add_argument("--classes", default="heart,aorta", metavar="A,B")
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="measure so many times, in turn (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON too")
    parser.add_argument("--run", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.run:
            print(json.dumps(_explain(options)))
            return 0
        _compare(options)
        return 0
    except Agg2ExpError as error:
        print(f"agg2exp: {error}", file=sys.stderr)
        return 2


def _compare(options: argparse.Namespace) -> None:
    from Agg2ExpLib.device import count_cores
    from Agg2ExpLib.phantom import write_phantoms

    if options.workers < 2 or options.cases < options.workers or options.repeats < 1:
        raise InputError(
            f"{options.workers} workers and {options.cases} cases: give 2 workers or more, and a case for each"
        )
    cores = count_cores()
    print(
        f"{options.cases} phantoms of {options.spacing:g} mm, {options.method} of {options.classes}, model {options.model}; "
    )
    print(f"one thread per worker; {cores} cores, {_busy():.1f} of them busy with other work before it begins")
    if options.workers > cores:
        print(f"note: {options.workers} workers have only {cores} cores to share")
    print(f"\n{'workers':>7}{'whole run, s':>14}{'cases alone, s':>16}{'s per case':>12}{'other work, cores':>19}")
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "phantoms", options.cases, seed=4242, spacing=options.spacing)
        for repeat in range(options.repeats):
            found, doubtful = [], False
            for workers in (1, options.workers):
                run, other = _child(options, Path(folder), repeat, workers)
                print(
                    f"{workers:>7}{run.whole:>14.1f}{run.working:>16.1f}{run.per_case:>12.2f}{other:>19.2f}", flush=True
                )
                found.append(run)
                doubtful |= other > BUSY
            whole, working = ratios(*found)
            print(
                f"{options.workers} workers do {whole:.2f} times the cases of one, start-up included; {working:.2f} times after it"
            )
            if doubtful:
                print("the machine was busy with something else meanwhile: measure again when it is quiet")
            if options.json:
                print(
                    json.dumps(
                        {"runs": [vars(one) for one in found], "whole": whole, "working": working, "busy": doubtful}
                    )
                )


def _child(options: argparse.Namespace, folder: Path, repeat: int, workers: int) -> tuple[Run, float]:
    """Run in a process of its own; return what it took, and how many cores were busy with anything else."""
    command = [sys.executable, "-m", "Agg2ExpLib.studies.throughput", "--run", str(folder), "--model", options.model]
    command += ["--method", options.method, "--classes", options.classes, "--workers", str(workers)]
    command += ["--repeats", str(repeat), *(["--samples", str(options.samples)] if options.samples else [])]
    path = os.pathsep.join(filter(None, [str(_LIBRARY_ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": path}
    ticks, own = _busy_seconds(), _children_seconds()
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    whole = time.perf_counter() - begin
    other = (_busy_seconds() - ticks - (_children_seconds() - own)) / whole if ticks else 0.0
    if done.returncode:
        raise Agg2ExpError(f"the run with {workers} workers failed: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return Run(workers, told["cases"], whole, told["working"], told["per_case"]), max(other, 0.0)


def _explain(options: argparse.Namespace) -> dict[str, Any]:
    """Run the cohort; return from when to when cases were at work, told by their parts."""
    from Agg2ExpLib.cohort.run.cases import find_cohort
    from Agg2ExpLib.cohort.run.runner import run_cohort
    from Agg2ExpLib.cohort.run.store import CohortFolder, file_stem
    from Agg2ExpLib.cohort.run.work import Job
    from Agg2ExpLib.models import load_model
    from Agg2ExpLib.request import request_of

    folder = Path(options.run)
    out = folder / f"cohort-{options.repeats}-{options.workers}"
    classes = tuple(options.classes.split(","))
    request = request_of(options.method, classes=classes, samples=options.samples, device="cpu")
    job = Job(out, partial(load_model, options.model), request, threads=1)
    cases = find_cohort(folder / "phantoms")
    summary = run_cohort(cases, job, workers=options.workers)
    if summary.failed:
        raise Agg2ExpError(f"{summary.failed} cases failed, such as {summary.reasons[0][0]}: {summary.reasons[0][1]}")
    store = CohortFolder(out)
    ends = [(store.parts / f"{file_stem(case.id)}.parquet").stat().st_mtime for case in cases]
    took = [float(store.read_part(case.id).provenance["seconds"]) for case in cases]
    working = max(ends) - min(end - seconds for end, seconds in zip(ends, took, strict=True))
    return {"cases": len(cases), "working": working, "per_case": sum(took) / len(took)}


def _busy_seconds() -> float:
    """Processor seconds that the whole machine has worked; 0 where that cannot be told."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        ticks = [int(field) for field in fields]
        return (sum(ticks[:8]) - ticks[3] - ticks[4]) / float(os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0


def _children_seconds() -> float:
    used = os.times()
    return used.children_user + used.children_system


def _busy(seconds: float = 1.0) -> float:
    """Cores that are busy now."""
    before = _busy_seconds()
    time.sleep(seconds)
    return (_busy_seconds() - before) / seconds


if __name__ == "__main__":
    sys.exit(main())
