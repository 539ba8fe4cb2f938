"""Runs a batch: which cases, start, pause, resume, cancel, what its folder holds, and what is made of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.compute.packages import FOR_COHORTS, FOR_WORKERS, REQUIREMENTS
from Agg2ExpLib.panel.compute.task import Outcome
from Agg2ExpLib.panel.controllers.batch_results import BatchResults
from Agg2ExpLib.panel.desk import Desk, sentence
from Agg2ExpLib.panel.sections.batch import BatchSection
from Agg2ExpLib.panel.words.batch import Request, Seen, describe_progress, look
from Agg2ExpLib.panel.words.batch_buttons import BatchFacts, batch_state
from Agg2ExpLib.panel.words.choices import Choices, method_words
from Agg2ExpLib.panel.words.options import bound_options
from Agg2ExpLib.progress import Event

#: Milliseconds between two looks at the folder while a batch runs.
LOOK_MS = 1500


class BatchController:
    """Stands between the cohort section and the work. It belongs to no scene: a scene may come and go while it runs.

    Parameters
    ----------
    section : BatchSection
        What it fills.
    desk : Desk
        Runs the batch, and remembers it between sessions.
    results : BatchResults
        Makes something of what is finished.
    """

    def __init__(self, section: BatchSection, desk: Desk, results: BatchResults) -> None:
        self.section, self._desk, self._results = section, desk, results
        self.request, self.seen = Request(), Seen()
        self._stopping = self._folder_problem = self._sample = ""
        self._paused = self._new_folder = False
        self._event = Event("", 0, 0)
        # Kept until they have ended: the last reference to a timer must not be that of its thread.
        self._looking: dict[Background, str] = {}
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(lambda *_: self.look_again())
        section.pressed.connect(self._on_pressed)
        section.changed.connect(self._on_changed)

    @property
    def running(self) -> bool:
        """Whether a batch is at work."""
        return self._desk.runner.batch is not None

    def restore(self) -> None:
        """Take up the batch that was remembered: after a reload of the module, or a restart of Slicer."""
        found = Request.from_text(self._desk.settings.batch())
        if found is not None:
            self._paused = True
            self._take(found)

    def close(self) -> None:
        """Look no more."""
        self._timer.stop()
        for one in self._looking:
            one.wait()
        self._looking.clear()

    def show_state(self) -> None:
        """Give the section's buttons their looks."""
        one = self.section.chosen_case()
        self.section.show_state(
            batch_state(
                BatchFacts(
                    problem=self._folder_problem or self._wanted().problem(),
                    busy=self._desk.busy(),
                    running=self.running,
                    stopping=self._stopping,
                    paused=self._paused and not self.running,
                    finished=self.seen.count("done"),
                    failed=self.seen.count("failed"),
                    waiting=self.seen.count("waiting"),
                    case=one.state if one else "",
                )
            )
        )

        if self.seen.request is None and not self.running:
            wanted = self._wanted()
            self.section.say_settings(describe_settings(wanted.choices, begun=False) if wanted.source else "")

    def show_sample(self, folder: str) -> None:
        """Show the cohort that comes with the sample, where no other folder is chosen."""
        if not self.request.out:
            self._sample = folder
            self.choose(out=folder)

    def choose(self, source: str | None = None, out: str | None = None) -> None:
        """Choose cases or output folder; a folder that the panel made brings what it was made with."""
        if source and self.request.out == self._sample:
            # Cases of one's own do not belong to the sample's cohort.
            self.request = replace(self.request, out="")
        self._take(replace(self.request, source=source or self.request.source, out=out or self.request.out))

    def start(self, retry_failed: bool = False) -> None:
        """Begin, or go on."""
        if not self._ready(self.section.workers):
            return
        self.request = self._wanted()
        self._new_folder = not Path(self.request.out).exists()
        try:
            task = self._desk.tasks.cohort(
                self.request.source, self.request.out, self.request.options(), self.request.keep, retry_failed
            )
        except Agg2ExpError as error:
            self.section.line.say(sentence(str(error)))
            return
        self._event = Event("", 0, 0)
        self._paused = True
        self._desk.settings.set_batch(self.request.to_text())
        self.section.line.show(0, 0, _("loading the model …"))
        self._timer.start()
        self._desk.runner.start(task, self, ended=self._on_finished)

    def stop(self, why: str) -> None:
        """Stop the child process: ``pause`` keeps the batch at hand, ``cancel`` forgets it."""
        if self._desk.runner.batch is not None:
            self._stopping = why
            self._desk.runner.batch.cancel()
        elif why == "cancel":
            self._forget()
        self._desk.changed.emit()

    def look_again(self) -> None:
        """Look at what the folder holds, in the background."""
        out, before = self.request.out, self.seen
        if not out or out in self._looking.values():
            return
        one = Background(lambda: look(out, before))
        self._looking[one] = out

        def told(seen: Seen | None, error: BaseException | None) -> None:
            # Without it the panel was closed meanwhile.
            if self._looking.pop(one, None):
                self._on_seen(out, seen, error)

        one.finished.connect(told)
        one.start()

    def _ready(self, workers: int) -> bool:
        wanted = [REQUIREMENTS, FOR_COHORTS, *([FOR_WORKERS] if workers > 1 else [])]
        return all(self._desk.packages(one, self.section.line) for one in wanted)

    def _wanted(self) -> Request:
        """Return the request with the options as they are: a folder that has cases goes on as it was begun."""
        begun = self.seen.request is not None
        choices = self.request.choices if begun or self._paused else self._desk.choices()
        if choices.structures == ():
            # A cohort is no quick look.
            method = "smoothgrad" if choices.method == "gradient" else choices.method
            choices = replace(choices, structures=None, method=method)
        return replace(self.request, choices=choices, keep=self.section.keep, workers=self.section.workers)

    def _take(self, request: Request) -> None:
        self.request, self.seen, self._folder_problem = request, Seen(), ""
        self.section.show_paths(request.source, request.out)
        self.section.show_options(request.keep, request.workers)
        self.section.show_cases(self.seen)
        self.section.line.say("")
        self.section.say_settings("")
        self.look_again()
        self._desk.changed.emit()

    def _on_seen(self, out: str, seen: Seen | None, error: BaseException | None) -> None:
        if out != self.request.out:
            return
        self._folder_problem = sentence(str(error)) if error is not None else ""
        found = seen or Seen()
        if found != self.seen:
            self.seen = found
            if found.request is not None and not self.running:
                self.request = found.request if not self.request.source or self._same(found.request) else self.request
                self.request = replace(self.request, choices=found.request.choices)
                self.section.show_paths(self.request.source, self.request.out)
                self.section.show_options(found.request.keep, self.section.workers)
                self.section.say_settings(describe_settings(found.request.choices))
            self.section.show_cases(found)
        if self.running:
            self._show_progress()
        elif found.cases:
            self.section.line.say(self._summary())
        self.show_state()

    def _same(self, other: Request) -> bool:
        return other.source == self.request.source

    def _summary(self) -> str:
        done, failed, waiting = (self.seen.count(state) for state in ("done", "failed", "waiting"))
        parts = [
            _("{done} of {cases} cases finished").format(done=done, cases=len(self.seen.cases)),
            f"{failed} failed" if failed else "",
        ]
        parts.append(_("{waiting} to go").format(waiting=waiting) if waiting else "")
        return f"{', '.join(part for part in parts if part)}."

    def show_event(self, event: Event) -> None:
        """Show progress, a unit of which is a case."""
        if event.stage == "cases":
            if not self._event.stage:
                self.request.write()
            self._event = event
            self._show_progress()

    def end_progress(self) -> None:
        """Show that the batch rests."""
        self.section.line.end_progress()

    def _show_progress(self) -> None:
        event = self._event
        if event.total:
            failed = self.seen.count("failed")
            words = describe_progress(event.done, event.total, failed, event.seconds_left)
            self.section.line.show(event.done, event.total, words)

    def _on_finished(self, outcome: Outcome) -> None:
        why, self._stopping = self._stopping, ""
        self._timer.stop()
        self._see_now()
        if why == "cancel":
            self._forget()
        elif outcome.status == "done":
            self._paused = False
            self._desk.settings.set_batch("")
            self.section.line.say(self._summary())
        elif why == "pause":
            self.section.line.say(_("Paused. {summary}").format(summary=self._summary()))
        else:
            words = (
                outcome.sentence
                if outcome.status == "refused"
                else "\n".join((outcome.sentence, *outcome.last_lines[-3:]))
            )
            kept = _(" What is finished is kept: press Resume to go on.") if self.seen.cases else ""
            self._paused = bool(self.seen.cases)
            self._desk.settings.set_batch(self.request.to_text() if self._paused else "")
            self.section.line.say(f"{sentence(words)}{kept}")

    def _see_now(self) -> None:
        try:
            self.seen = look(self.request.out, self.seen)
        except Agg2ExpError as error:
            self._folder_problem = sentence(str(error))
        self.section.show_cases(self.seen)

    def _forget(self) -> None:
        """Let the output folder go; it is removed when this batch made it and nothing in it is finished."""
        out, finished = self.request.out, self.seen.count("done")
        if self._new_folder and not finished:
            shutil.rmtree(out, ignore_errors=True)
        self._paused = self._new_folder = False
        self._desk.settings.set_batch("")
        self._take(replace(self.request, out=""))
        kept = (
            _("{finished} finished cases stay in {out}; choose it again to go on.").format(finished=finished, out=out)
            if finished
            else _("Nothing was finished.")
        )
        self.section.line.say(_("The batch was cancelled. {kept}").format(kept=kept))

    def _on_changed(self) -> None:
        self.show_state()

    def _on_pressed(self, name: str) -> None:
        try:
            self._press(name)
        except Agg2ExpError as error:
            self.section.line.say(sentence(str(error)))

    def _press(self, name: str) -> None:
        if name == "batch run":
            self.stop("pause") if self.running else self.start()
        elif name == "retry failed":
            self.start(retry_failed=True)
        elif name == "batch cancel":
            self.stop("cancel")
        elif name == "open case":
            one = self.section.chosen_case()
            if one is not None:
                self._results.open_case(self.request.out, one)
        elif name == "cohort report" and self._ready(1):
            self._results.report(self.request.out)
        elif name == "cohort profile" and self._ready(1):
            self._results.fit(self.request.out)
        elif name in ("cases folder", "cases table", "batch output"):
            self._ask(name)

    def _ask(self, name: str) -> None:
        if name == "cases table":
            found = qt.QFileDialog.getOpenFileName(self.section.frame, _("Table of cases"), "", _("Tables (*.csv)"))
            path = found[0] if isinstance(found, tuple) else found
        else:
            title = _("Folder of cases") if name == "cases folder" else _("Output folder of the batch")
            path = qt.QFileDialog.getExistingDirectory(self.section.frame, title)
        if path:
            self.choose(**{"out" if name == "batch output" else "source": str(path)})


def describe_settings(choices: Choices, *, begun: bool = True) -> str:
    """Return how a folder was begun, which it goes on with, or how one will be begun.

    Examples
    --------
    >>> describe_settings(Choices(structures=("heart",)))
    'Goes on as it was begun: thorax-phantom, SmoothGrad, 20 samples, 1 structure.'
    """
    name = method_words(choices.method)[0]
    count = f"{len(choices.structures)} structure" if choices.structures else _("all structures")
    count += "s" if choices.structures and len(choices.structures) != 1 else ""
    if "samples" in bound_options(choices.method):
        name = _("{method}, {samples} samples").format(method=name, samples=choices.samples)
    words = (
        _("Goes on as it was begun: {model}, {method}, {count}.") if begun else _("With {model}, {method}, {count}.")
    )
    return words.format(model=Path(choices.model).name, method=name, count=count)
