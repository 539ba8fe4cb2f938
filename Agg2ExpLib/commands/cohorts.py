"""Commands for many cases: cohort, profile."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from Agg2ExpLib.commands.common import add_settings, command, model_of, progress_of, quiet_libraries, settings_of


def add(commands: Any) -> None:
    """Add these commands."""
    _add_cohort(commands)


def _add_cohort(commands: Any) -> None:
    parser = command(commands, "cohort", _cohort, "explain many cases into one table; stopped, it goes on where it was")
    parser.add_argument(
        "cases", metavar="CASES", help="folder of cases, or .csv with id, image, truth, roi:NAME, metadata"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="cohort folder; run again to go on with it")
    add_settings(parser, image=False)
    parser.add_argument("--keep", action="store_true", help="keep every Explanation folder (attribution volumes)")
    parser.add_argument("--retry-failed", action="store_true", help="try failed cases again")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default one per GPU, else one per core")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler of a cluster, instead of --workers")


def _cohort(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cohort.cases import find_cohort
    from Agg2ExpLib.cohort.runner import run_cohort
    from Agg2ExpLib.cohort.work import Job

    quiet_libraries()
    job = Job(Path(options.out), partial(model_of, options), settings_of(options), options.keep)
    summary = run_cohort(
        find_cohort(options.cases),
        job,
        workers=options.workers,
        scheduler=options.scheduler,
        retry_failed=options.retry_failed,
        progress=progress_of(options),
    )
    if options.progress != "json":
        print(summary.describe())
