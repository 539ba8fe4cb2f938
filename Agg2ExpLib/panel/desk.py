"""What every controller of the panel works with: tasks are run, choices read, packages asked for, sentences said."""

from __future__ import annotations

from collections.abc import Callable

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.compute.packages import REQUIREMENTS, ensure_packages
from Agg2ExpLib.panel.compute.runner import Runner
from Agg2ExpLib.panel.compute.task import Outcome, Task
from Agg2ExpLib.panel.compute.task_maker import TaskMaker
from Agg2ExpLib.panel.parameters import Parameters
from Agg2ExpLib.panel.sections.task_line import JobStrip, TaskLine
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.words.buttons import busy_words
from Agg2ExpLib.panel.words.choices import Choices, Overlay

#: How many of a failed child's last lines are shown where its work was asked for.
_LAST_LINES = 4


class Desk:
    """One for the whole panel.

    Parameters
    ----------
    tasks : TaskMaker
        Makes the tasks.
    runner : Runner
        Runs them.
    line : TaskLine
        Where it is said how a task ended, that no other section asked for.
    strip : JobStrip
        Where every task shows its progress, whichever section asked for it.

    Attributes
    ----------
    settings : UserSettings
        What is remembered between sessions.
    parameters : Parameters
        What is saved with the scene.
    logged : Signal
        With a list of lines for the log.
    changed : Signal
        Without values: something that buttons depend on is not as before.
    """

    def __init__(self, tasks: TaskMaker, runner: Runner, line: TaskLine, strip: JobStrip) -> None:
        self.tasks, self.runner, self.settings = tasks, runner, tasks.settings
        self.parameters = Parameters()
        self.logged, self.changed = Signal(), Signal()
        self._line, self._strip = line, strip
        self._packages_ready: set[tuple[str, ...]] = set()
        runner.watch(strip)
        strip.cancel_pressed.connect(runner.cancel)
        strip.go_on_pressed.connect(self._go_on)
        runner.said.connect(self.logged.emit)
        runner.changed.connect(self.changed.emit)

    def choices(self) -> Choices:
        """Return model, structures and settings as they are chosen."""
        return self.parameters.choices()

    def overlay(self) -> Overlay:
        """Return how the attribution is to be shown."""
        return self.parameters.overlay()

    def job(self) -> str:
        """Return what the user waits for: empty, ``preparing``, or the kind of a task."""
        task = self.runner.current
        if task is None:
            return ""
        return "preparing" if task.preparing and task.kind == "explain" else task.kind

    def busy(self) -> str:
        """Return what is at work and what to do about it; empty when nothing is."""
        return busy_words(self.job())

    def run(
        self,
        make: Callable[[], Task],
        done: Callable[[Outcome, Task], None],
        line: TaskLine | None = None,
        needs: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        """Run a task; ``done`` is called when it has ended well.

        Parameters
        ----------
        make : callable
            Returns the task, or raises what is to be said.
        done : callable
            Gets outcome and task.
        line : TaskLine, optional
            Of the section that asks: how the task ended when it did not end well.
        needs : tuple
            Lists of packages that must be there, as :meth:`packages` takes them.
        """
        self._strip.begin()
        if not all(self.packages(one, line) for one in needs):
            self._strip.end_progress()
            return
        try:
            task = make()
        except Agg2ExpError as error:
            self.say(str(error), line)
            self._strip.end_progress(sentence(str(error)))
            return
        for each in {self._line, line or self._line}:
            each.say("")
        task.asked.connect(self._strip.show_event)
        self.runner.start(task, ended=lambda outcome: self._ended(outcome, task, done, line))

    def _go_on(self) -> None:
        if self.runner.current is not None:
            self.runner.current.go_on()

    def packages(self, wanted: tuple[str, ...] = REQUIREMENTS, line: TaskLine | None = None) -> bool:
        """Check the packages of Slicer's own Python once, and offer to install them; another Python is its owner's business."""
        if wanted in self._packages_ready or self.settings.interpreter():
            return True
        report = ensure_packages(wanted)
        if report.ready:
            self._packages_ready.add(wanted)
        else:
            self.logged.emit(list(report.lines))
            self.say(report.sentence, line)
        return report.ready

    def say(self, text: str, line: TaskLine | None = None) -> None:
        """Say a sentence where the user looks, and in the log."""
        first, *words = text.split("\n")
        (line or self._line).say("\n".join([sentence(first), *words]))
        self.logged.emit([sentence(first)])

    def _ended(
        self, outcome: Outcome, task: Task, done: Callable[[Outcome, Task], None], line: TaskLine | None
    ) -> None:
        for each in {self._line, line or self._line}:
            each.say("")
        if outcome.status == "done":
            try:
                done(outcome, task)
            except Agg2ExpError as error:
                self.say(str(error), line)
        else:
            words = () if outcome.status in ("cancelled", "refused") else outcome.last_lines[-_LAST_LINES:]
            self.say("\n".join([outcome.sentence, *words]), line)
            if outcome.status != "cancelled":
                # Whoever has scrolled away from the section reads it too.
                self._strip.end_progress(sentence(outcome.sentence))


def sentence(text: str) -> str:
    """Return a text as a sentence: a capital first, a full stop last.

    Examples
    --------
    >>> sentence("the disk is full")
    'The disk is full.'
    """
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith(".") else f"{text}."
