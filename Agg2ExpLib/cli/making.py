"""Commands that make cases, models and the demo: phantom, train, demo."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import command, goes_on, numbers, progress_of, quiet_libraries
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    _add_phantom(commands)
    _add_train(commands)
    _add_demo(commands)


def _add_phantom(commands: Any) -> None:
    parser = command(commands, "phantom", _phantom, "generate chest CT phantoms with ground truth")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=1, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="index of the first patient (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cohort; patient = (seed, index)")
    parser.add_argument("--spacing", default="1.5", metavar="X,Y,Z", help="mm (default 1.5)")
    parser.add_argument(
        "--finding",
        action="append",
        default=[],
        metavar="KIND[:SEVERITY[:SIDE[:LOBE]]]",
        help="pleural_effusion, consolidation, nodule or pneumothorax; severity above 0 to 1; repeatable",
    )


def _phantom(options: argparse.Namespace) -> None:
    from Agg2ExpLib.phantom import Finding, write_phantoms

    findings = [Finding.parse(text) for text in options.finding]
    spacing = numbers(options.spacing, "--spacing", float)
    cases = write_phantoms(
        options.out, options.count, options.seed, spacing, findings, options.first, progress_of(options)
    )
    if options.progress != "json":
        say(f"{len(cases)} case{'s' if len(cases) > 1 else ''} in {options.out}: {cases[0].name} ... {cases[-1].name}")


def _add_train(commands: Any) -> None:
    from Agg2ExpLib.training.options import add_options

    add_options(goes_on(command(commands, "train", _train, "train a Swin UNETR on a folder of cases")))


def _train(options: argparse.Namespace) -> None:
    from Agg2ExpLib.training import train
    from Agg2ExpLib.training.options import settings_of

    quiet_libraries()
    out = train(
        options.data,
        options.validation,
        options.run_folder,
        options.out,
        settings_of(options),
        options.device,
        description=options.description,
        licence=options.licence,
        command=options.command_line,
        progress=progress_of(options),
    )
    # Of the processes of torchrun only the first writes, and tells.
    if options.progress != "json" and os.environ.get("RANK", "0") == "0":
        say(f"model written to {out}")


def _add_demo(commands: Any) -> None:
    parser = command(
        commands, "demo", _demo, "explain a generated CT with the bundled demo model, and draw the figures"
    )
    parser.add_argument("--out", default="demo", metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier demo")


def _demo(options: argparse.Namespace) -> None:
    from Agg2ExpLib.demo import run_demo

    quiet_libraries()
    say(run_demo(Path(options.out), overwrite=options.overwrite, progress=progress_of(options)))
