"""One thing that the user asked for: files are handed over in the background, then a child process works on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.compute.child import Job, Outcome
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.progress import Event


class Task:
    """Preparation and child process as one.

    Parameters
    ----------
    kind : str
        ``explain``, ``estimate``, ``whatif``, ``environment``, ``figures``, ``score``, ``compare``, ``cohort``, ``report`` or
        ``fit``.
    name : str
        For messages: "the explanation".
    command : sequence of str
        Of the child process.
    prepare : callable, optional
        Runs first, in a thread: writes the files that the command names.
    temporary : sequence of path
        Folders that go when all has ended.
    surroundings : mapping, optional
        Environment variables of the child.
    answer_file : path, optional
        As of :class:`~Agg2ExpLib.panel.compute.child.Job`.

    Attributes
    ----------
    progressed, said, finished : Signal
        As of :class:`~Agg2ExpLib.panel.compute.child.Job`.
    out : Path or None
        Folder that the command writes.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        command: Sequence[str],
        *,
        prepare: Callable[[], Any] | None = None,
        temporary: Sequence[Path] = (),
        surroundings: Mapping[str, str] | None = None,
        out: Path | None = None,
        answer_file: Path | None = None,
    ) -> None:
        self.kind, self.name, self.out = kind, name, out
        self.progressed, self.said, self.finished = Signal(), Signal(), Signal()
        self.outcome: Outcome | None = None
        self._job = Job(command, temporary, name, surroundings, answer_file)
        self._job.progressed.connect(self.progressed.emit)
        self._job.said.connect(self.said.emit)
        self._job.finished.connect(self._end)
        self._background = Background(prepare) if prepare else None
        self._cancelled = self._begun = False

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
        self._background.finished.connect(self._prepared)
        self._background.start()

    def cancel(self) -> None:
        """Stop kindly."""
        self._cancelled = True
        if self._begun:
            self._job.cancel()

    def kill(self) -> None:
        """Stop now; the outcome is told before this returns."""
        self._cancelled = True
        if self.running and not self._begun and self._background is not None:
            self._background.wait()
        self._job.kill()

    def wait(self, seconds: float | None = None) -> Outcome | None:
        """Keep the event loop turning until the end, or until ``seconds`` have passed."""
        import time

        import qt

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

    def _prepared(self, _: Any, error: BaseException | None) -> None:
        if not self.running:
            return
        if self._cancelled:
            self._job.kill()
        elif error is not None:
            sentence = str(error) if isinstance(error, Agg2ExpError) else f"{self.name} could not be prepared: {error}"
            self._job.refuse(sentence)
        else:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        self._job.start()

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.finished.emit(outcome)
