"""Progress of long work: one small object that everything long reports to, and that can cancel it.

Work calls :meth:`Progress.stage` and :meth:`Progress.advance`; a *sink* shows the events (a bar in a terminal,
JSON lines for the Slicer panel, nothing in a notebook). Cancelling is raising :class:`~Agg2ExpLib.errors.Cancelled`
from ``advance``, so work stops only between two network passes and never inside a write.

The time left in all is told as a range, as wide as what is not known yet: work says by :meth:`Progress.plan` what will follow.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TextIO

from Agg2ExpLib.errors import Cancelled

# Units that come within this share of the time to the first belong to it.
_AT_ONCE = 0.05


@dataclass(frozen=True)
class Event:
    """What is known at one moment: stage name, units done and in all, what is at work, seconds left.

    ``seconds_left`` is of the stage; ``least_left`` and ``most_left`` are of all that is planned. The kind is ``progress``,
    ``message``, or ``question``: the work takes longer than is done without asking, and waits.
    """

    stage: str
    done: int
    total: int
    detail: str = ""
    seconds_left: float | None = None
    kind: str = "progress"
    least_left: float | None = None
    most_left: float | None = None


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
    ask
        Called once, before work goes on of which more than ``ask_above`` seconds are left at least; returns when it may go on.
    ask_above
        Seconds.
    """

    def __init__(
        self,
        sink: Sink | None = None,
        cancelled: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[[], None] | None = None,
        ask_above: float = 600.0,
    ) -> None:
        self._sink = sink
        self._cancelled = cancelled
        self._clock = clock
        self._stage, self._done, self._total, self._detail, self._start = "", 0, 0, "", clock()
        self._before = self._beyond = 0
        self._ask, self._ask_above = ask, ask_above
        self._plan: list[tuple[str, float, float]] = []
        self._pace: float | None = None
        self._first: tuple[int, float] | None = None

    def plan(self, steps: Sequence[tuple[str, float, float]]) -> None:
        """Tell the stages to come as (name, least, most), in units as long as those of the first of them."""
        self._plan = list(steps)

    def stage(self, name: str, total: int, detail: str = "", before: int = 0) -> None:
        """Begin a stage of ``total`` units, of which an earlier run did ``before``: they say nothing of today's pace."""
        self._stage, self._done, self._total, self._detail, self._start = name, before, total, detail, self._clock()
        self._before, self._first, self._beyond = before, None, 0
        names = [step[0] for step in self._plan]
        if name in names:
            del self._plan[: names.index(name) + 1]
        self._emit()

    def advance(self, units: int = 1, detail: str | None = None) -> None:
        """Report ``units`` more done; ``detail`` says what is at work now."""
        self._done += units
        if detail is not None:
            self._detail = detail
        self._emit()

    @property
    def done(self) -> int:
        """Units of the stage that are done."""
        return self._done

    def expect(self, total: int, most: int, detail: str | None = None) -> None:
        """Say anew how many units the stage has, and at most: of work that ends when something is reached."""
        self._total = max(total, self._done)
        self._beyond = max(most - self._total, 0)
        self.advance(0, detail)

    def message(self, text: str) -> None:
        """Show one sentence, such as a warning, outside the count."""
        self._check()
        if self._sink:
            self._sink(Event(self._stage, self._done, self._total, text, None, "message"))

    def _emit(self) -> None:
        self._check()
        if not self._sink:
            return
        left = None
        now, rest = self._done - self._before, self._total - self._done
        if now > 0 and rest >= 0:
            self._pace = self._pace_now(now)
            left = self._pace * rest
        least = most = None
        if self._pace is not None:
            # A stage that has just begun is taken to be as fast as the one before.
            least = self._pace * (max(rest, 0) + sum(step[1] for step in self._plan))
            most = self._pace * (max(rest, 0) + self._beyond + sum(step[2] for step in self._plan))
        event = Event(self._stage, self._done, self._total, self._detail, left, "progress", least, most)
        self._sink(event)
        if self._ask and least is not None and least > self._ask_above and now >= min(3, self._total):
            ask, self._ask = self._ask, None
            self._sink(replace(event, kind="question"))
            begin = self._clock()
            ask()
            waited = self._clock() - begin
            self._start += waited
            self._first = self._first and (self._first[0], self._first[1] + waited)

    def _pace_now(self, done: int) -> float:
        """Seconds a unit; the first is slow, for memory is taken and kernels are chosen: it counts only until there are three."""
        now = self._clock()
        if self._first is None or now - self._first[1] <= _AT_ONCE * (self._first[1] - self._start):
            # A window's units are told together when all of it is done: the first are those of the whole window.
            self._first = (done, self._first[1] if self._first else now)
        units, then = self._first
        return (now - then) / (done - units) if done >= units + 2 else (now - self._start) / done

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
        self._bar.total = event.total
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
