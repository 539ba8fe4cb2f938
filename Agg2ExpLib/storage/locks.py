"""One run at a place."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.storage.files import told
from Agg2ExpLib.storage.names import safe_file_name

#: Name of the lock of a folder that keeps its results as they come, within it.
LOCK_FILE = ".lock"
# Seconds between two tries of a run that waits.
_PAUSE_S = 1.0
# Bytes; with the endings below the 255 that a name may have. Shorter than the folder's own name it should not be: where this
# path is not too long, the folder's is not.
_LONGEST_NAME = 240
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderLock:
    """Keeps a second run away from a folder, of this process or of another; the system lets go when a process ends.

    Parameters
    ----------
    folder : path
        What is worked on; it need not be there.
    inside : bool
        The lock lies in the folder rather than beside it: for a folder that is never renamed.
    wait : callable, optional
        Wait for the other run, and call this between two tries; it may raise. Without it the second run is refused.
    option : str
        What the user would change to work elsewhere.

    Raises
    ------
    OutputError
        On entering: another run is at work there, or the place cannot be written to.
    """

    def __init__(
        self, folder: Path, *, inside: bool = False, wait: Callable[[], None] | None = None, option: str = "--out"
    ) -> None:
        self.folder, self._wait, self._option = folder.resolve(), wait, option
        self.file = self.folder / LOCK_FILE if inside else hidden_beside(self.folder, "lock")
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> FolderLock:
        with told(self.folder, self._option):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            while not self._taken():
                if self._wait is None:
                    raise OutputError(
                        f"another run is at work on {self.folder}; wait for it, or give another {self._option}"
                    )
                self._wait()
                time.sleep(_PAUSE_S)
        return self

    def __exit__(self, *_: object) -> None:
        stream, self._stream = self._stream, None
        assert stream is not None  # with pairs enter and exit
        removed = False
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
            removed = True
        stream.close()
        if not removed:
            # Windows removes no open file: neither our own before it is closed, nor one that another run has opened since.
            with contextlib.suppress(OSError):
                self.file.unlink()

    def _taken(self) -> bool:
        while True:
            stream = self.file.open("ab")
            try:
                _lock(stream)
                # The run before may have removed the file since we opened it, and a lock on a file without a name keeps
                # nobody out.
                if os.path.samestat(os.fstat(stream.fileno()), os.stat(self.file)):
                    self._stream = stream
                    return True
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in _HELD:
                    return False
                raise OutputError(
                    f"the file system of {self.folder} gives no locks ({error.strerror}), so a second run could not be kept "
                    f"away; choose another {self._option}"
                ) from error
            finally:
                if self._stream is not stream:
                    stream.close()


def hidden_beside(folder: Path, ending: str) -> Path:
    """Return the hidden path beside a folder that is always the same for it."""
    name = folder.name if len(folder.name.encode()) <= _LONGEST_NAME else safe_file_name(folder.name, distinct=True)
    return folder.with_name(f".{name}.{ending}")


def _lock(stream: IO[bytes]) -> None:
    """Take the lock of an open file, or raise OSError when another has it."""
    if sys.platform == "win32":
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
