"""Compares the shown explanation with a reference profile: which file, when, and what the anomaly section says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.compute.child import Outcome
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.compute.workbench import Workbench
from Agg2ExpLib.panel.controllers.presenter import Presenter, Run
from Agg2ExpLib.panel.controllers.reference_view import ReferenceView
from Agg2ExpLib.panel.sections.anomaly import NEEDS, AnomalySection
from Agg2ExpLib.panel.shown import Shown
from Agg2ExpLib.panel.store import Store
from Agg2ExpLib.panel.words.verdicts import Verdicts, verdicts_of

#: Attribute of the explanation's node in the scene: the verdicts, as JSON.
ATTRIBUTE = "Agg2Exp.Verdicts"


class Referee:
    """Stands between the anomaly section and the work.

    Parameters
    ----------
    section : AnomalySection
        What it fills.
    presenter : Presenter
        Knows what is shown.
    workbench, store : Workbench, Store
        Make the task, and remember the profile between sessions.
    run : callable
        Starts a task and calls a function when it is done.
    ready : callable
        Returns whether the packages for scoring are there, after asking.
    remember : callable
        Keeps the profile with the scene.
    """

    def __init__(
        self,
        section: AnomalySection,
        presenter: Presenter,
        workbench: Workbench,
        store: Store,
        run: Run,
        ready: Callable[[], bool],
        remember: Callable[[], None],
    ) -> None:
        self.profile = ""
        self.view = ReferenceView(section.reference, section.false_alarms, presenter, verdicts_in)
        self._section, self._presenter, self._workbench, self._store = section, presenter, workbench, store
        self._run, self._ready, self._remember = run, ready, remember
        section.pressed.connect(self._on_pressed)
        section.reason_chosen.connect(presenter.show_region)

    def restore(self, profile: str) -> None:
        """Take the profile that a scene names, else the last one; nothing of it is read before the comparison."""
        self.profile = profile or self._store.profile()
        self._section.show_profile(self.profile)
        self.show()

    def show(self) -> None:
        """Show what is known of the shown explanation."""
        shown = self._presenter.shown
        found = verdicts_in(shown.saved.anchor) if shown else None
        self._section.show_verdicts(found)
        self.view.show()
        if found is None:
            self._section.say("" if self.profile else NEEDS)
            return
        other = _("Compared with {profile}.").format(profile=Path(found.profile).name)
        self._section.say(" ".join([*([other] if found.profile != self.profile else []), found.summary()]))

    def open(self, profile: str) -> None:
        """Choose a profile, remember it, and compare what is shown."""
        self.profile = profile
        self._store.set_profile(profile)
        self._section.show_profile(profile)
        self._remember()
        self.compare()

    def compare(self) -> None:
        """Compare the shown explanation, in the child process."""
        shown = self._presenter.shown
        if shown is None or not shown.computed_here or not self.profile or not self._ready():
            self.show()
            return
        profile, false_alarms = self.profile, self.view.false_alarms

        def make() -> Task:
            task = self._workbench.score(shown.folder, profile, false_alarms)
            task.finished.connect(self._on_refused)
            return task

        self._section.show_verdicts(None)
        self._section.say("")
        self._run(make, lambda outcome, task: self._on_scored(outcome, shown, profile, false_alarms))

    def _on_scored(self, outcome: Outcome, shown: Shown, profile: str, false_alarms: float) -> None:
        try:
            keep_verdicts(shown.saved.anchor, verdicts_of(outcome.answer, profile, false_alarms))
        except Agg2ExpError as error:
            self._section.say(str(error))
            return
        self.show()

    def _on_refused(self, outcome: Outcome) -> None:
        if outcome.status != "done":
            self._section.say(f"{outcome.sentence[:1].upper()}{outcome.sentence[1:]}.")

    def _on_pressed(self, name: str) -> None:
        if name == "compare":
            self.compare()
            return
        kinds = _("Reference profiles ({patterns})").format(patterns="*.npz")
        found = qt.QFileDialog.getOpenFileName(self._section.frame, _("Open a reference profile"), self.profile, kinds)
        path = found[0] if isinstance(found, tuple) else found
        if path:
            self.open(str(path))


def keep_verdicts(anchor: Any, found: Verdicts) -> None:
    """Keep verdicts with the scene, on the explanation's node."""
    anchor.SetAttribute(ATTRIBUTE, found.to_text())


def verdicts_in(anchor: Any) -> Verdicts | None:
    """Return the verdicts that an explanation's node holds; ``None`` when it was not compared."""
    return Verdicts.from_text(anchor.GetAttribute(ATTRIBUTE) or "")
