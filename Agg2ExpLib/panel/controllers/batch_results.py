"""What is made of a batch: its report, a reference profile, a case in the scene, and the counts for a script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.compute.workbench import Workbench
from Agg2ExpLib.panel.controllers.presenter import Presenter, Run
from Agg2ExpLib.panel.sections.batch import BatchSection
from Agg2ExpLib.panel.sections.inputs import InputsSection
from Agg2ExpLib.panel.words.batch import CaseState, kept_explanation, look
from Agg2ExpLib.storage import safe_file_name

REPORT_FILE = "report.html"


class BatchResults:
    """Makes something of the finished cases of a cohort folder.

    Parameters
    ----------
    section : BatchSection
        Where it says what became of it.
    workbench : Workbench
        Makes the tasks.
    inputs, presenter : InputsSection, Presenter
        Where a case is opened.
    run : callable
        Starts a task and calls a function when it is done.
    use_profile : callable
        Opens a reference profile in the anomaly section.
    """

    def __init__(
        self,
        section: BatchSection,
        workbench: Workbench,
        inputs: InputsSection,
        presenter: Presenter,
        run: Run,
        use_profile: Callable[[str], None],
    ) -> None:
        self._section, self._workbench = section, workbench
        self._inputs, self._presenter = inputs, presenter
        self._run, self._use_profile = run, use_profile
        self._loading: Background | None = None

    def report(self, folder: str) -> None:
        """Have the report made, then open it."""
        out = Path(folder) / REPORT_FILE
        self._run(
            lambda: self._told(self._workbench.cohort_report(folder, out), _("Making the report …")),
            lambda *_: self._on_report(out),
        )

    def _on_report(self, out: Path) -> None:
        self._section.say(_("The report is {out}.").format(out=out))
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(out)))

    def fit(self, folder: str) -> None:
        """Have a reference profile fitted, then open it in the anomaly section."""
        out = Path(folder) / f"{safe_file_name(Path(folder).name)}-profile.npz"
        self._run(
            lambda: self._told(self._workbench.fit_profile(folder, out), _("Fitting the reference …")),
            lambda *_: self._on_fitted(out),
        )

    def _on_fitted(self, out: Path) -> None:
        self._section.say(
            _("The reference profile is {out}; it is open under 'Is this patient unusual?'.").format(out=out)
        )
        self._use_profile(str(out))

    def _told(self, task: Task, words: str) -> Task:
        """Show in this section too how a task ends that does not end well."""
        self._section.say(words)
        task.finished.connect(
            lambda outcome: None if outcome.status == "done" else self._section.say(sentence(outcome.sentence))
        )
        return task

    def open_case(self, cohort: str, one: CaseState) -> None:
        """Show a case: its explanation when it was kept, else its CT."""
        folder = kept_explanation(cohort, one.case)
        if folder is not None:
            self._presenter.show_folder(folder)
            self._section.say(_("{case} is shown.").format(case=one.case))
            return
        self._section.say(_("Reading {image} …").format(image=one.image))

        def read() -> Any:
            from Agg2ExpLib.volume import read_volume

            return read_volume(one.image)

        self._loading = Background(read)
        self._loading.finished.connect(lambda volume, error: self._on_loaded(one, volume, error))
        self._loading.start()

    def _on_loaded(self, one: CaseState, volume: Any, error: BaseException | None) -> None:
        from Agg2ExpLib.scene.volumes import fill_volume_node

        if error is not None:
            self._section.say(sentence(str(error)))
            return
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", one.case)
        fill_volume_node(node, volume)
        node.CreateDefaultDisplayNodes()
        self._inputs.volume.setCurrentNode(node)
        self._section.say(
            _(
                "The CT of {case} is chosen under Inputs. Its attributions were not kept: press Apply to explain it."
            ).format(case=one.case)
        )


def result_of(folder: str | Path) -> dict[str, Any]:
    """Return what a cohort folder came to, for a script: counts, and the reasons of failures.

    Raises
    ------
    InputError
        It is no cohort folder.
    """
    seen = look(folder)
    if not seen.cases:
        raise InputError(f"{folder} holds no case; run the cohort again")
    return {
        "folder": Path(folder),
        **{{"done": "finished"}.get(state, state): seen.count(state) for state in ("done", "failed", "waiting")},
        "reasons": {one.case: one.reason for one in seen.cases if one.reason},
    }


def sentence(text: str) -> str:
    """Return a text as a sentence: a capital first, a full stop last."""
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith(".") else f"{text}."
