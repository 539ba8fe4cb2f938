"""Progress of long work: one small object that everything long reports to, and that can cancel it.

Work calls :meth:`Progress.stage` and :meth:`Progress.advance`; a *sink* shows the events (a bar in a terminal,
JSON lines for the Slicer panel, nothing in a notebook). Cancelling is raising :class:`~Agg2ExpLib.errors.Cancelled`
from ``advance``, so work stops only between two network passes and never inside a write.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO

from Agg2ExpLib.errors import Cancelled


@dataclass(frozen=True)
class Event:
    """What is known at one moment: stage name, units done and in all, what is at work, seconds left in the stage."""

    stage: str
    done: int
    total: int
    detail: str = ""
    seconds_left: float | None = None
    kind: str = "progress"


class Sink(Protocol):
    """Anything that shows events."""

    def __call__(self, event: Event) -> None:
        """Show one event."""


class Progress:
    """Counts the units of the current stage and estimates the time left.

    Parameters
    ----------
    sink
        Called with each :class:`Event`; ``None`` shows nothing.
    cancelled
        Asked at every step; when it answers true, :class:`~Agg2ExpLib.errors.Cancelled` is raised.
    clock
        Seconds, for tests.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        cancelled: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._cancelled = cancelled
        self._clock = clock
        self._stage, self._done, self._total, self._detail, self._start = "", 0, 0, "", clock()
        self._before = 0

    def stage(self, name: str, total: int, detail: str = "", before: int = 0) -> None:
        """Begin a stage of ``total`` units, of which an earlier run did ``before``: they say nothing of today's pace."""
        self._stage, self._done, self._total, self._detail, self._start = name, before, total, detail, self._clock()
        self._before = before
        self._emit()

    def advance(self, units: int = 1, detail: str | None = None) -> None:
        """Report ``units`` more done; ``detail`` says what is at work now."""
        self._done += units
        if detail is not None:
            self._detail = detail
        self._emit()

    def message(self, text: str) -> None:
        """Show one sentence, such as a warning, outside the count."""
        self._check()
        if self._sink:
            self._sink(Event(self._stage, self._done, self._total, text, None, "message"))

    def _emit(self) -> None:
        self._check()
        if self._sink:
            left = None
            now = self._done - self._before
            if now > 0 and self._done <= self._total:
                left = (self._clock() - self._start) / now * (self._total - self._done)
            self._sink(Event(self._stage, self._done, self._total, self._detail, left))

    def _check(self) -> None:
        if self._cancelled and self._cancelled():
            raise Cancelled(f"cancelled during {self._stage or 'the start'}")


class JsonLinesSink:
    """One JSON object a line, for a parent process to read."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lost = False

    def __call__(self, event: Event) -> None:
        """Write one line; work goes on when nobody reads any more."""
        if not self._lost:
            try:
                print(json.dumps(asdict(event)), file=self._stream, flush=True)
            except OSError:
                self._lost = True


class TerminalSink:
    """A tqdm bar per stage with the time left; messages above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bar: Any = None
        self._stage = ""
        self._lost = False

    def __call__(self, event: Event) -> None:
        """Draw one event; work goes on when the screen is full or was closed."""
        if not self._lost:
            try:
                self._draw(event)
            except OSError:
                self._lose()

    def _lose(self) -> None:
        self._lost = True
        if self._bar is not None:
            # It would try again when it is taken away.
            self._bar.disable = True
            self._bar = None

    def _draw(self, event: Event) -> None:
        from tqdm import tqdm

        if event.kind == "message":
            tqdm.write(event.detail, file=self._stream)
            return
        if self._bar is None or event.stage != self._stage or event.done < self._bar.n:
            self.close()
            self._stage = event.stage
            # A log file has no carriage return: there, one line every ten seconds is enough.
            slow = 0.1 if self._stream.isatty() else 10.0
            self._bar = tqdm(
                total=event.total,
                initial=event.done,
                desc=event.stage,
                file=self._stream,
                mininterval=slow,
                bar_format="{desc:<18} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt}  {elapsed} done, {remaining} left {postfix}",
            )
        if event.detail:
            self._bar.set_postfix_str(event.detail, refresh=False)
        self._bar.update(event.done - self._bar.n)
        if event.done >= event.total:
            self.close()

    def clear(self) -> None:
        """Wipe the bar of a stage that ends early."""
        if self._bar is not None:
            self._bar.leave = False
            try:
                self.close()
            except OSError:
                self._lose()

    def close(self) -> None:
        """Finish the bar of the current stage."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
