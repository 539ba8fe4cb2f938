"""The commands, one module a family. A module's ``add`` gives the parser its commands; it imports the work on use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

#: Modules in the order of ``agg2exp --help``.
FAMILIES = (
    "explaining",
    "instances",
    "comparing",
    "drawing",
    "showing",
    "exporting",
    "cohorts",
    "making",
    "models",
    "listing",
    "task",
)


def add_all(commands: Any) -> None:
    """Add every command to the subparsers of the command line."""
    for family in FAMILIES:
        import_module(f"Agg2ExpLib.cli.{family}").add(commands)
