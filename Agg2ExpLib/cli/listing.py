"""The command that lists packages and devices: environment."""

from __future__ import annotations

import argparse
from typing import Any

from Agg2ExpLib.cli.common import command
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    _add_environment(commands)


def _add_environment(commands: Any) -> None:
    command(commands, "environment", _environment, "list packages and devices, for a report of a problem")


def _environment(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.environment import describe_environment, environment

    found = environment()
    say(json.dumps(found) if options.progress == "json" else describe_environment(found))
