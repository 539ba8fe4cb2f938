"""One child process at work: started, listened to, cancelled with all its descendants, and cleaned up after."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qt

from Agg2ExpLib.panel.compute import process_tree
from Agg2ExpLib.panel.compute.output import LineReader, parse_line
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event

#: Seconds that a child has for cleaning up after it was asked to stop.
PATIENCE_S = 5.0
#: Seconds of work on the child's words in one turn of the event loop; a screen is redrawn in between.
TURN_S = 0.02
_READ_BYTES = 1 << 16
_LAST_LINES = 15
_CANCELLED_CODE = 130
_USER_ERROR_CODE = 2


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    status : str
        ``done``, ``cancelled``, ``refused`` (an input or output cannot be used) or ``failed``.
    sentence : str
        What to tell the user; empty when done.
    last_lines : tuple of str
        The child's last words, for a report.
    answer : dict, optional
        The JSON object that the command answered with.
    exit_code : int
        Of the process; -1 when it was ended from outside or never began.
    """

    status: str
    sentence: str = ""
    last_lines: tuple[str, ...] = ()
    answer: dict[str, Any] | None = None
    exit_code: int = 0


@dataclass
class _Heard:
    """What the child has said so far."""

    out: LineReader = field(default_factory=LineReader)
    err: LineReader = field(default_factory=LineReader)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    complaint: str = ""
    answer: dict[str, Any] | None = None


class Job:
    """Runs one command.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell is involved.
    temporary : sequence of path
        Folders that are removed when the job has ended, however it ended.
    name : str
        For messages, such as "the explanation".
    surroundings : mapping of str to str, optional
        Environment variables of the child; ``None`` gives it Slicer's own, which a foreign Python could not work with.
    answer_file : path, optional
        JSON file that the command writes; it becomes the answer, before temporary folders go.

    Attributes
    ----------
    progressed : Signal
        With the latest :class:`~Agg2ExpLib.progress.Event`; events that came at once are told as one.
    said : Signal
        With a list of lines for the log.
    finished : Signal
        With the :class:`Outcome`, once.
    """

    def __init__(
        self,
        command: Sequence[str],
        temporary: Sequence[str | Path] = (),
        name: str = "the work",
        surroundings: Mapping[str, str] | None = None,
        answer_file: Path | None = None,
    ) -> None:
        self.command, self.name = list(command), name
        self.progressed, self.said, self.finished = Signal(), Signal(), Signal()
        self.outcome: Outcome | None = None
        self._surroundings = surroundings
        self._answer_file = answer_file
        self._temporary = [Path(folder) for folder in temporary]
        self._heard = _Heard()
        self._known: tuple[process_tree.Running, ...] = ()
        self._cancelling = self._killed = self._ended = False
        self._exit: tuple[int, bool] | None = None
        self._deadline = self._look_again = 0.0
        self._begin = time.monotonic()
        self._process = qt.QProcess()
        self._timer = qt.QTimer()
        self._timer.setInterval(20)
        self._timer.timeout.connect(self._listen)
        self._process.finished.connect(self._on_exit)
        self._process.errorOccurred.connect(self._on_error)

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return not self._ended

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancelling

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begin

    def start(self) -> None:
        """Begin; returns at once."""
        self._begin = time.monotonic()
        surroundings = qt.QProcessEnvironment.systemEnvironment()
        if self._surroundings is not None:
            surroundings.clear()
            for key, value in self._surroundings.items():
                surroundings.insert(key, value)
        surroundings.insert("PYTHONIOENCODING", "utf-8")
        self._process.setProcessEnvironment(surroundings)
        self._process.start(self.command[0], self.command[1:])
        self._timer.start()

    def cancel(self) -> None:
        """Ask the child and all its descendants to stop; after :data:`PATIENCE_S` they are ended."""
        if self._ended or self._cancelling:
            return
        self._cancelling = True
        self._deadline = time.monotonic() + PATIENCE_S
        self._remember()
        process_tree.ask_to_stop(self._known)

    def kill(self) -> None:
        """End everything now and clean up; for scene close, reload and exit, when nobody waits."""
        if self._ended:
            return
        self._cancelling = self._killed = True
        self._remember()
        process_tree.kill(self._known)
        self._process.kill()
        self._process.waitForFinished(2000)
        if not self._ended:
            self._end(-1, True)

    def refuse(self, sentence: str) -> None:
        """End before the beginning, because what the child needs is not there."""
        if not self._ended:
            self._clean_up()
            self._tell(Outcome("refused", sentence, (), None, _USER_ERROR_CODE))

    def _listen(self) -> None:
        """Take what has come, for a short turn only."""
        if self._ended:
            return
        more = self._take(TURN_S)
        if self.seconds >= self._look_again:
            self._look_again = self.seconds + (0.3 if self.seconds < 5.0 else 5.0)
            self._remember()
        if self._cancelling and time.monotonic() > self._deadline and not self._exit:
            process_tree.kill(self._known)
            self._process.kill()
        if self._exit and not more:
            self._end(*self._exit)

    def _take(self, seconds: float) -> bool:
        """Read lines until the time is up; returns whether more is waiting."""
        until = time.monotonic() + seconds
        lines: list[str] = []
        latest: Event | None = None
        waiting = True
        while waiting and time.monotonic() < until:
            waiting = False
            for channel, reader in (
                (qt.QProcess.StandardOutput, self._heard.out),
                (qt.QProcess.StandardError, self._heard.err),
            ):
                self._process.setReadChannel(channel)
                data = as_bytes(self._process.read(_READ_BYTES))
                waiting = waiting or bool(data)
                for line in reader.feed(data):
                    latest = self._sort(line, channel == qt.QProcess.StandardError, lines) or latest
        if latest:
            self.progressed.emit(latest)
        if lines:
            self.said.emit(lines)
        return waiting

    def _sort(self, line: str, is_error: bool, lines: list[str]) -> Event | None:
        found = line if is_error else parse_line(line)
        if isinstance(found, Event):
            if found.kind == "progress":
                return found
            line = found.detail
        elif isinstance(found, dict):
            self._heard.answer = found
            return None
        if is_error and line.startswith("agg2exp: "):
            self._heard.complaint = line.removeprefix("agg2exp: ")
        if line.strip():
            lines.append(line)
            self._heard.last.append(line)
        return None

    def _remember(self) -> None:
        pid = int(self._process.processId())
        now = process_tree.tree(pid) if pid > 0 else ()
        self._known = tuple(dict.fromkeys([*self._known, *now]))

    def _on_exit(self, *_: Any) -> None:
        # Asked for rather than taken from the signal, which has two forms in Qt 5.
        self._exit = (int(self._process.exitCode()), self._process.exitStatus() == qt.QProcess.CrashExit)

    def _on_error(self, error: Any = None, *_: Any) -> None:
        # Not asked for: in Qt 5 the name of that question is a signal's too.
        if error == qt.QProcess.FailedToStart and not self._ended:
            self._end(-1, True)

    def _end(self, code: int, crashed: bool) -> None:
        self._drain()
        if self._answer_file is not None:
            self._heard.answer = _document(self._answer_file)
        self._clean_up()
        self._tell(self._outcome(code, crashed))

    def _clean_up(self) -> None:
        self._ended = True
        self._timer.stop()
        # A process object whose listeners keep it would keep Slicer from ending.
        for thing in (self._timer, self._process):
            thing.deleteLater()
        # What a launcher leaves behind when it is ended from outside.
        leftovers = process_tree.still_there(self._known) if self._known else ()
        if leftovers:
            process_tree.kill(leftovers)
        for folder in self._temporary:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.finished.emit(outcome)

    def _drain(self) -> None:
        # What PySide6 and PythonQt say when the process object is gone already.
        with contextlib.suppress(RuntimeError, ValueError):
            while self._take(1.0):
                pass
        lines: list[str] = []
        for reader, is_error in ((self._heard.out, False), (self._heard.err, True)):
            self._sort(reader.rest(), is_error, lines)
        if lines:
            self.said.emit(lines)

    def _outcome(self, code: int, crashed: bool) -> Outcome:
        heard = self._heard
        last = tuple(heard.last)
        finished = code == 0 and not crashed
        # What was complete when the cancel came is kept; a kill means that nobody wants it any more.
        if self._killed or code == _CANCELLED_CODE or (self._cancelling and not finished):
            sentence = f"{self.name} was cancelled; nothing incomplete was left behind"
            return Outcome("cancelled", sentence, last, None, code)
        if finished:
            return Outcome("done", "", last, heard.answer, 0)
        if code == _USER_ERROR_CODE and heard.complaint:
            return Outcome("refused", heard.complaint, last, None, code)
        if code == -1 and not self._known:
            return Outcome(
                "failed",
                f"{self.name} could not begin: {self.command[0]} cannot be run; check the Python interpreter in the settings",
                last,
                None,
                -1,
            )
        return Outcome("failed", f"{self.name} {_why(code, crashed, last)}", last, None, -1 if crashed else code)


def _why(code: int, crashed: bool, last: tuple[str, ...]) -> str:
    words = " ".join(last)
    if crashed:
        return (
            "was ended from outside or crashed, most often because the memory ran out; explain fewer structures, or close "
            "other programs, and try again"
        )
    if "No module named 'encodings'" in words:
        return "could not start its Python: PYTHONHOME or PYTHONPATH name another one; start Slicer without them"
    if "ModuleNotFoundError" in words or "ImportError" in words:
        return "lacks a Python package; press Check environment to see which"
    if "out of memory" in words or "OutOfMemory" in words:
        return "ran out of the GPU's memory; choose the CPU or fewer structures, and try again"
    if "No space left" in words:
        return "ran out of disk space; free some and try again"
    return f"stopped with an error (exit code {code}); the log below has its last words"


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def as_bytes(data: Any) -> bytes:
    """Return the bytes of what Qt reads, which PythonQt and PySide6 give in different dress."""
    if isinstance(data, bytes):
        return data
    inner = data.data() if hasattr(data, "data") else data
    return inner if isinstance(inner, bytes) else os.fsencode(str(inner))
