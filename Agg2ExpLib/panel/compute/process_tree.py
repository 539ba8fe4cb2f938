"""A process and everything that it started. PythonSlicer is a launcher: ending it alone would leave the real work running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Running:
    """One process; its start tells it from a later one with the same number."""

    pid: int
    started: str


def tree(pid: int) -> tuple[Running, ...]:
    """Return a process and all that descend from it, itself first; empty when it is gone."""
    if sys.platform == "win32":
        # taskkill knows the descendants itself, and listing processes there takes a second.
        return (Running(pid, ""),)
    table = _table()
    if pid not in table:
        return ()
    children: dict[int, list[int]] = defaultdict(list)
    for child, (parent, _) in table.items():
        children[parent].append(child)
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop(0)
        found.append(Running(one, table[one][1]))
        waiting += children[one]
    return tuple(found)


def still_there(processes: tuple[Running, ...]) -> tuple[Running, ...]:
    """Return those that are running now; nothing on Windows, where a number alone does not tell a process."""
    if sys.platform == "win32":
        return ()
    table = _table()
    return tuple(one for one in processes if table.get(one.pid, (0, ""))[1] == one.started)


def ask_to_stop(processes: tuple[Running, ...]) -> None:
    """Ask each process to end (SIGTERM); it removes what it has begun. Windows knows only :func:`kill`."""
    if sys.platform == "win32":
        kill(processes)
    else:
        _signal(processes, signal.SIGTERM)


def kill(processes: tuple[Running, ...]) -> None:
    """End each process at once."""
    if sys.platform == "win32":
        for one in processes[:1]:
            subprocess.run(["taskkill", "/PID", str(one.pid), "/T", "/F"], capture_output=True, check=False)
    else:
        _signal(processes, signal.SIGKILL)


def _signal(processes: tuple[Running, ...], number: int) -> None:
    for one in still_there(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, number)


def _table() -> dict[int, tuple[int, str]]:
    """Every process -> its parent and its start."""
    if Path("/proc/self/stat").is_file():
        return _table_of_proc()
    return _table_of_command(["ps", "-A", "-o", "pid=,ppid=,lstart="])


def _table_of_proc() -> dict[int, tuple[int, str]]:
    table = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in brackets may hold anything, brackets too; the fields follow the last one.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] != "Z":
                    table[int(folder.name)] = (int(fields[1]), fields[19])
    return table


def _table_of_command(command: list[str]) -> dict[int, tuple[int, str]]:
    table = {}
    shown = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    for line in shown.splitlines():
        parts = line.split(None, 2)
        if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit():
            table[int(parts[0])] = (int(parts[1]), parts[2].strip())
    return table
