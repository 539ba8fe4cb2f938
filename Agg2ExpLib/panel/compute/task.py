"""One thing that the user asked for: its files are written in a thread, then a child process works on it.

The child is listened to, cancelled through its standard input, and cleaned up after.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qt

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.compute import process_tree
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.compute.child_output import LineReader, parse_line
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event
from Agg2ExpLib.task_file import CANCEL, GO_ON, LISTEN

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
    """How a task ended.

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


class Task:
    """Preparation and child process as one.

    Parameters
    ----------
    kind : str
        ``explain``, ``estimate``, ``whatif``, ``needs``, ``instances``, ``environment``, ``figures``, ``export``, ``score``,
        ``compare``, ``cohort``, ``report``, ``fit`` or ``model``.
    name : str
        For messages: "the explanation".
    command : sequence of str
        Program and arguments; no shell is involved.
    prepare : callable, optional
        Runs first, in a thread: writes the files that the child reads.
    temporary : sequence of path
        Folders that are removed when all has ended, however it ended.
    surroundings : mapping of str to str, optional
        Environment variables of the child; ``None`` gives it Slicer's own, which a foreign Python could not work with.
    out : path, optional
        Folder that the command writes.
    answer_file : path, optional
        JSON file that the command writes; it becomes the answer, before temporary folders go.

    Attributes
    ----------
    progressed : Signal
        With the latest :class:`~Agg2ExpLib.progress.Event`; events that came at once are told as one.
    said : Signal
        With a list of lines for the log.
    asked : Signal
        With an event of the kind ``question``: the work waits for :meth:`go_on`. Where nobody listens it goes on at once.
    finished : Signal
        With the :class:`Outcome`, once.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        command: Sequence[str],
        *,
        prepare: Callable[[], Any] | None = None,
        temporary: Sequence[str | Path] = (),
        surroundings: Mapping[str, str] | None = None,
        out: Path | None = None,
        answer_file: Path | None = None,
    ) -> None:
        self.kind, self.name, self.command, self.out = kind, name, list(command), out
        self.progressed, self.said, self.asked, self.finished = Signal(), Signal(), Signal(), Signal()
        self.outcome: Outcome | None = None
        self._surroundings, self._answer_file = surroundings, answer_file
        self._temporary = [Path(folder) for folder in temporary]
        self._heard = _Heard()
        self._begun = self._cancelled = self._killed = self._missing = False
        self._exit: tuple[int, bool] | None = None
        self._deadline = 0.0
        self._background = Background(prepare) if prepare else None
        self._process = qt.QProcess()
        self._timer = qt.QTimer()
        self._timer.setInterval(20)
        self._timer.timeout.connect(self._listen)
        self._process.finished.connect(self._on_exit)
        self._process.errorOccurred.connect(self._on_error)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.outcome is None

    @property
    def preparing(self) -> bool:
        """Whether the child process has not begun yet."""
        return self.running and not self._begun

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancelled and self.running

    def start(self) -> None:
        """Begin; returns at once."""
        if self._background is None:
            self._begin()
            return
        self.progressed.emit(Event("handing over the scan", 0, 0))
        self._background.finished.connect(self._on_prepared)
        self._background.start()

    def cancel(self) -> None:
        """Ask the child to stop; after :data:`PATIENCE_S` it and all that it started are ended."""
        if not self.running or self._cancelled:
            return
        self._cancelled = True
        if self._begun:
            self._deadline = time.monotonic() + PATIENCE_S
            self._process.write(CANCEL + b"\n")

    def go_on(self) -> None:
        """Answer the child's question."""
        if self.running and self._begun:
            self._process.write(GO_ON + b"\n")

    def kill(self) -> None:
        """End everything now and clean up; the outcome is told before this returns. For scene close, reload and exit."""
        if not self.running:
            return
        self._cancelled = self._killed = True
        if self._begun:
            self._kill_tree()
            self._process.waitForFinished(2000)
        elif self._background is not None:
            self._background.wait()
        if self.running:
            self._end(-1, True)

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """Keep the event loop turning until the end, or until ``seconds`` have passed."""
        until = None if seconds is None else time.monotonic() + seconds
        while self.running and (until is None or time.monotonic() < until):
            qt.QCoreApplication.processEvents()
            time.sleep(0.002)
        return self.outcome

    def result(self) -> Outcome:
        """Wait for the end and return the outcome.

        Raises
        ------
        RuntimeError
            It did not end well, in one sentence.
        """
        outcome = self.wait()
        if outcome is None or outcome.status != "done":
            raise RuntimeError(outcome.sentence if outcome else "the work did not end")
        return outcome

    def _on_prepared(self, _: Any, error: BaseException | None) -> None:
        if not self.running:
            return
        if self._cancelled:
            self._end(-1, True)
        elif error is not None:
            sentence = str(error) if isinstance(error, Agg2ExpError) else f"{self.name} could not be prepared: {error}"
            self._clean_up()
            self._tell(Outcome("refused", sentence, (), None, _USER_ERROR_CODE))
        else:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        surroundings = qt.QProcessEnvironment.systemEnvironment()
        if self._surroundings is not None:
            surroundings.clear()
            for key, value in self._surroundings.items():
                surroundings.insert(key, value)
        surroundings.insert("PYTHONIOENCODING", "utf-8")
        self._process.setProcessEnvironment(surroundings)
        self._process.start(self.command[0], self.command[1:])
        self._process.write(LISTEN + b"\n")
        self._timer.start()

    def _listen(self) -> None:
        """Take what has come, for a short turn only."""
        if not self.running:
            return
        more = self._take(TURN_S)
        if self._cancelled and time.monotonic() > self._deadline and not self._exit:
            self._kill_tree()
        if self._exit and not more:
            self._end(*self._exit)

    def _kill_tree(self) -> None:
        # PythonSlicer is a launcher: what it started is looked for while it is there.
        process_tree.kill(int(self._process.processId()))
        self._process.kill()
        self._deadline = time.monotonic() + PATIENCE_S

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
        if latest and latest.kind == "question":
            # It is the last that the child says before the answer.
            self.asked.emit(latest) if self.asked.heard else self.go_on()
        elif latest:
            self.progressed.emit(latest)
        if lines:
            self.said.emit(lines)
        return waiting

    def _sort(self, line: str, is_error: bool, lines: list[str]) -> Event | None:
        found = line if is_error else parse_line(line)
        if isinstance(found, Event):
            if found.kind != "message":
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

    def _on_exit(self, *_: Any) -> None:
        # Asked for rather than taken from the signal, which has two forms in Qt 5.
        self._exit = (int(self._process.exitCode()), self._process.exitStatus() == qt.QProcess.CrashExit)

    def _on_error(self, error: Any = None, *_: Any) -> None:
        # Not asked for: in Qt 5 the name of that question is a signal's too.
        if error == qt.QProcess.FailedToStart and self.running:
            self._missing = True
            self._end(-1, True)

    def _end(self, code: int, crashed: bool) -> None:
        if self._begun:
            self._drain()
        if self._answer_file is not None:
            self._heard.answer = _document(self._answer_file)
        self._clean_up()
        self._tell(self._outcome(code, crashed))

    def _clean_up(self) -> None:
        self._timer.stop()
        # A process object whose listeners keep it would keep Slicer from ending.
        for thing in (self._timer, self._process):
            thing.deleteLater()
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
        heard, last = self._heard, tuple(self._heard.last)
        finished = code == 0 and not crashed
        # What was complete when the cancel came is kept; a kill means that nobody wants it any more.
        if self._killed or code == _CANCELLED_CODE or (self._cancelled and not finished):
            sentence = f"{self.name} was cancelled; nothing incomplete was left behind"
            return Outcome("cancelled", sentence, last, None, code)
        if finished:
            return Outcome("done", "", last, heard.answer, 0)
        if code == _USER_ERROR_CODE and heard.complaint:
            return Outcome("refused", heard.complaint, last, None, code)
        if self._missing:
            why = f"could not begin: {self.command[0]} cannot be run; check the Python interpreter in the settings"
        else:
            why = _why(code, crashed, last)
        return Outcome("failed", f"{self.name} {why}", last, None, -1 if crashed else code)


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
