"""Folders: made whole under a hidden name beside their place, or kept in place by one run at a time."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.storage.files import flush_file, flush_folder, put_in_place, remove_temporary, told
from Agg2ExpLib.storage.locks import LOCK_FILE, FolderLock, hidden_beside

_MARKER = "fingerprint"


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes
    ----------
    name : str
        For messages: "an Explanation folder".
    ours : callable
        Tells whether a folder is one.
    """

    name: str
    ours: Callable[[Path], bool]

    def refuse_foreign(self, folder: Path, option: str = "--out") -> None:
        """Raise :class:`OutputError` when writing to a folder would touch something else: somebody's scans, say."""
        if folder.exists() and not (folder.is_dir() and (_is_empty(folder) or self.ours(folder))):
            raise OutputError(
                f"{folder} exists and is not {self.name}, so nothing is written to it or over it; give another {option}"
            )


@contextlib.contextmanager
def write_folder(
    target: Path,
    kind: Kind | None = None,
    *,
    overwrite: bool = False,
    fingerprint: str = "",
    keep: str = "",
    longest: str = "",
    lock: FolderLock | None = None,
    option: str = "--out",
) -> Iterator[Path]:
    """Yield a hidden folder beside ``target`` to fill; it gets its name, flushed, when the block ends.

    When the block fails, nothing is left, or, when a stopped run is to be gone on with, the folder for the next run.

    Parameters
    ----------
    target : Path
        The folder to make.
    kind : Kind, optional
        What may be replaced; without it nothing ever is.
    overwrite : bool
        Replace a folder of this kind.
    fingerprint : str
        What the contents depend on: a folder that was kept is gone on with only when this is the same.
    keep : str
        Pattern of files that make a stopped run's folder worth keeping, such as ``attributions/*.json``; empty keeps none.
    longest : str
        The longest path within the folder that will be written: a system that cannot have it says so before the work.
    lock : FolderLock, optional
        The target's lock, when the caller has it; by default it is taken here.
    option : str
        What the user would change to write elsewhere.

    Raises
    ------
    OutputError
        The target exists, another run is at work on it, or it cannot be written.
    """
    target = target.resolve()
    if target == Path.cwd():
        raise OutputError(f"{target} is the folder you are in, which cannot be replaced; give a new name to {option}")
    _check_target(target, kind, overwrite, option)
    folder, published = partial_folder(target), False
    with contextlib.nullcontext() if lock else FolderLock(target, option=option), told(target, option):
        try:
            _prepare(folder, fingerprint, keep, longest)
            yield folder
            (folder / _MARKER).unlink()
            for path in [path for path in folder.rglob("*") if path.is_file()]:
                flush_file(path)
            flush_folder(folder)
            # It may have been filled while the work went on.
            _check_target(target, kind, overwrite, option)
            replace_folder(folder, target)
            published = True
        finally:
            if not published and not (keep and any(folder.glob(keep))):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def open_folder(
    folder: Path, kind: Kind | None = None, *, wait: Callable[[], None] | None = None, option: str = "--out"
) -> Iterator[None]:
    """Keep a folder whose results come one by one for this run alone; it is made when it is not there.

    What killed writers left in it is removed.

    Parameters
    ----------
    folder : Path
        The folder.
    kind : Kind, optional
        What it must be, unless it is empty; without it anything.
    wait : callable, optional
        Wait for another run there, as :class:`FolderLock` does.
    option : str
        What the user would change to write elsewhere.

    Raises
    ------
    OutputError
        The folder holds something else, another run is at work on it, or it cannot be written.
    """
    if kind is not None:
        kind.refuse_foreign(folder, option)
    with FolderLock(folder, inside=True, wait=wait, option=option):
        remove_temporary(folder)
        yield


def clear_folder(folder: Path) -> None:
    """Remove what is in an open folder; its lock stays."""
    with told(folder):
        for path in folder.iterdir():
            if path.name == LOCK_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def replace_folder(new: Path, target: Path) -> None:
    """Put a finished folder in place of another; whatever stops this, one of the two is there."""
    old = hidden_beside(target, f"{secrets.token_hex(4)}.old")
    replaced = target.exists()
    if replaced:
        put_in_place(target, old)
    try:
        put_in_place(new, target)
    except BaseException:
        if replaced and not target.exists():
            put_in_place(old, target)
        raise
    flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def partial_folder(target: Path) -> Path:
    """Return where a folder is built before it gets its name; one that is left there is of a process that was killed."""
    return hidden_beside(target, "partial")


def discard_folder(target: Path) -> None:
    """Remove what a killed run left of a folder that it was making; nothing while another run is at work on it."""
    lock = FolderLock(target)
    folder = partial_folder(lock.folder)
    if folder.exists() or lock.file.exists():
        with contextlib.suppress(OutputError), lock:
            shutil.rmtree(folder, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return all(path.name == LOCK_FILE for path in folder.iterdir())


def _check_target(target: Path, kind: Kind | None, overwrite: bool, option: str) -> None:
    if not target.exists() or (target.is_dir() and _is_empty(target)):
        return
    if overwrite and kind is not None:
        kind.refuse_foreign(target, option)
    else:
        also = ", or --overwrite to replace it" if kind else ""
        raise OutputError(f"{target} exists already; give another {option}{also}")


def _prepare(folder: Path, fingerprint: str, keep: str, longest: str) -> None:
    marker = folder / _MARKER
    if folder.exists():
        same = marker.is_file() and marker.read_text(encoding="utf-8") == fingerprint
        if not (keep and same):
            shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    remove_temporary(folder)
    if longest:
        probe = folder / longest
        probe.parent.mkdir(parents=True, exist_ok=True)
        if not probe.exists():
            probe.touch()
            probe.unlink()
    marker.write_text(fingerprint, encoding="utf-8")
