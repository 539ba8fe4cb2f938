"""The command that the Slicer panel starts: task."""

from __future__ import annotations

import argparse
from typing import Any

from Agg2ExpLib.cli.common import command
from Agg2ExpLib.cli.parent import obey_parent


def add(commands: Any) -> None:
    """Add this command."""
    text = "do what a file says, and end when the process that wrote it asks for it or is gone; for the Slicer panel"
    command(commands, "task", _task, text).add_argument("file", metavar="FILE", help="JSON file of the panel")


def _task(options: argparse.Namespace) -> None:
    from Agg2ExpLib.cli import parsed
    from Agg2ExpLib.task_file import TaskFile

    parent = obey_parent()
    task = TaskFile.read(options.file)
    asked = parsed([*task.command.split(), *task.arguments])
    # How a stopped or failed command is told depends on the command that was asked for.
    vars(options).update(vars(asked), scan=task.scan, other_scans=task.other_scans, parent=parent)
    options.run(options)
