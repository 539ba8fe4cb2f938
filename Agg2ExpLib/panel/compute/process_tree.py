"""A process and everything that it started, ended at once: the last resort when a child does not end by itself.

PythonSlicer is a launcher: killing it alone would leave the real work running until that sees that nobody listens any more.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def tree(pid: int) -> list[int]:
    """Return a process and all that descend from it, itself first; empty when it is gone. Not on Windows."""
    parents = _parents()
    if pid not in parents:
        return []
    children: dict[int, list[int]] = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    found = [pid]
    for one in found:
        found += children[one]
    return found


def kill(pid: int) -> None:
    """End a process and all that descend from it."""
    if pid <= 0:
        return
    if sys.platform == "win32":
        # It knows the descendants itself, and listing processes there takes a second.
        subprocess.run(["taskkill", "/PID", str(pid), "/T", "/F"], capture_output=True, check=False)
        return
    import signal

    for one in tree(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """Every process -> its parent; those that have ended and were not asked about are left out."""
    if Path("/proc/self/stat").is_file():
        return _parents_of_proc()
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    pairs = (line.split() for line in shown.splitlines())
    return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}


def _parents_of_proc() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The name in brackets may hold anything, brackets too; the fields follow the last one.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(folder.name)] = int(fields[1])
    return found
