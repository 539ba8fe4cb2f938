"""The one place that starts tasks, shows how far they are, cancels them and ends them: for the panel and for scripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.panel.compute.task import Outcome, Task
from Agg2ExpLib.panel.compute.task_maker import COHORT
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event
from Agg2ExpLib.report import clock


class ProgressLine(Protocol):
    """Where somebody sees how far a task is."""

    def show_event(self, event: Event) -> None:
        """Show progress."""

    def end_progress(self) -> None:
        """Show that there is none any more."""


class Runner:
    """Every task that runs.

    Attributes
    ----------
    said : Signal
        With a list of lines, whichever task said them.
    changed : Signal
        Without values: a task began, was asked to stop, or ended.
    latest : Task or None
        The task that the user waits for, or waited for last; a batch of many patients is none of these.
    """

    def __init__(self) -> None:
        self.said, self.changed = Signal(), Signal()
        self.latest: Task | None = None
        self._tasks: list[Task] = []
        self._watching: list[ProgressLine] = []

    def watch(self, line: ProgressLine) -> None:
        """Show the progress of every task from now on, but of a batch, which has its own place."""
        self._watching.append(line)

    @property
    def current(self) -> Task | None:
        """The task that the user waits for now."""
        return self.latest if self.latest is not None and self.latest.running else None

    @property
    def batch(self) -> Task | None:
        """The batch that is at work."""
        return next((task for task in self._tasks if task.kind == COHORT), None)

    def start(self, task: Task, *lines: ProgressLine, ended: Callable[[Outcome], Any] | None = None) -> Task:
        """Begin a task, show its progress in some lines, and call ``ended`` when it is over; returns at once."""
        self._tasks.append(task)
        shown: list[ProgressLine] = list(dict.fromkeys(lines))
        if task.kind != COHORT:
            self.latest = task
            shown += [line for line in self._watching if line not in shown]
        for line in shown:
            task.progressed.connect(line.show_event)
        task.said.connect(self.said.emit)
        self.said.emit([_("Begun: {task}.").format(task=task.name)])

        begin = time.monotonic()

        def over(outcome: Outcome) -> None:
            self._tasks.remove(task)
            if outcome.status == "done":
                took = clock(time.monotonic() - begin)
                self.said.emit([_("Done: {task}, after {time}.").format(task=task.name, time=took)])
            for line in shown:
                line.end_progress()
            if ended is not None:
                ended(outcome)
            self.changed.emit()

        task.finished.connect(over)
        task.start()
        self.changed.emit()
        return task

    def cancel(self) -> None:
        """Ask the task that the user waits for to stop."""
        if self.current is not None:
            self.current.cancel()
            self.changed.emit()

    def stop_all(self, but: str = "") -> None:
        """End everything that runs, now, but the tasks of one kind."""
        for task in list(self._tasks):
            if not but or task.kind != but:
                task.kill()


class AtExit:
    """Stops what runs when the application ends; taken back when the panel goes before that."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop: Callable[[], None] | None = stop
        qt.QCoreApplication.instance().aboutToQuit.connect(lambda *_: self._quit())

    def cancel(self) -> None:
        """Do nothing at the end."""
        self._stop = None

    def _quit(self) -> None:
        if self._stop is not None:
            self._stop()
