"""Stands in for Windows where files are concerned: what Windows refuses is refused here too, in this process, on Linux.

Whether a file is open is asked of the system, so that files opened by C libraries and memory maps count as well.
"""

import builtins
import errno
import fcntl
import io
import os
import shutil
from pathlib import Path

import pytest

RESERVED = {"con", "prn", "aux", "nul", *(port + digit for port in ("com", "lpt") for digit in "0123456789¹²³")}
FORBIDDEN = set('<>:"|?*\\') | {chr(code) for code in range(32)}
LONGEST_FILE, LONGEST_FOLDER = 259, 247
IN_USE, DENIED = 32, 5


class WindowsFiles:
    """Patches the few calls of the system that rename, remove, flush and make files.

    Attributes
    ----------
    refused : list of str
        What was refused, in words.
    """

    def __init__(self, monkeypatch):
        self.refused = []
        for name in ("open", "mkdir", "fsync", "unlink", "remove", "rename", "replace", "rmdir"):
            setattr(self, f"_{name}", getattr(os, name))
            if name != "remove":
                monkeypatch.setattr(os, name, getattr(self, name))
        monkeypatch.setattr(os, "remove", self.unlink)
        self._io_open = io.open
        for module in (io, builtins):
            monkeypatch.setattr(module, "open", self.io_open)
        # Otherwise folders are removed by handles, which Windows has not.
        monkeypatch.setattr(shutil, "_use_fd_functions", False)
        monkeypatch.setattr("Agg2ExpLib.storage.files._WAITS_S", (0.0, 0.0))

    def open(self, path, flags, *others, **options):
        if os.path.isdir(path):
            self._refuse(errno.EACCES, path, "a folder is opened", DENIED)
        if flags & os.O_CREAT:
            self._check_name(path, LONGEST_FILE)
        return self._open(path, flags, *others, **options)

    def io_open(self, file, mode="r", *others, **options):
        if not isinstance(file, int):
            if set(mode) & set("wax+"):
                self._check_name(file, LONGEST_FILE)
            else:
                self._check_length(file, LONGEST_FILE)
        return self._io_open(file, mode, *others, **options)

    def mkdir(self, path, *others, **options):
        self._check_name(path, LONGEST_FOLDER)
        return self._mkdir(path, *others, **options)

    def fsync(self, handle):
        number = handle if isinstance(handle, int) else handle.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            self._refuse(errno.EBADF, f"handle {number}", "a handle that is only read is flushed")
        return self._fsync(handle)

    def unlink(self, path, **options):
        self._check_closed(path)
        return self._unlink(path, **options)

    def rmdir(self, path, **options):
        self._check_closed(path)
        return self._rmdir(path, **options)

    def rename(self, source, target, **options):
        if os.path.lexists(target):
            self._refuse(errno.EEXIST, target, "a file is renamed over another", 183)
        self._move(source, target)
        return self._rename(source, target, **options)

    def replace(self, source, target, **options):
        if os.path.isdir(target):
            self._refuse(errno.EACCES, target, "a folder is replaced", DENIED)
        self._move(source, target)
        return self._replace(source, target, **options)

    def _move(self, source, target):
        self._check_closed(source)
        self._check_closed(target)
        self._check_name(target, LONGEST_FOLDER if os.path.isdir(source) else LONGEST_FILE, but=source)

    def _check_closed(self, path):
        path = os.path.realpath(path)
        for one in open_files():
            if one == path or one.startswith(path + os.sep):
                self._refuse(errno.EACCES, path, f"{one} is open", IN_USE)

    def _check_length(self, path, longest):
        if len(os.path.abspath(os.fspath(path))) > longest:
            self._refuse(errno.ENOENT, path, "the path is too long", 3)

    def _check_name(self, path, longest, but=None):
        path = Path(os.path.abspath(os.fspath(path)))
        if path.is_relative_to("/dev") or path.is_relative_to("/proc"):
            return
        self._check_length(path, longest)
        name = path.name
        if name.partition(".")[0].casefold() in RESERVED or set(name) & FORBIDDEN or name != name.rstrip(". "):
            self._refuse(errno.EINVAL, path, "the name cannot be", 123)
        if path.parent.is_dir():
            others = [one for one in os.listdir(path.parent) if one != name and path.with_name(one) != but]
            if name.casefold() in {one.casefold() for one in others}:
                self._refuse(errno.EEXIST, path, "a file of this name in other capitals is there", 183)

    def _refuse(self, number, path, words, code=0):
        self.refused.append(f"{path}: {words}")
        error = OSError(number, os.strerror(number), str(path))
        error.winerror = code
        raise error


def open_files():
    """Return the paths of this process's open files and memory maps."""
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        try:
            found.add(os.readlink(handle))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8") as lines:
        found |= {line.split(None, 5)[5].strip() for line in lines if "/" in line}
    return found


@pytest.fixture
def windows(monkeypatch):
    """The file rules of Windows for one test."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not tell which files are open")
    return WindowsFiles(monkeypatch)
