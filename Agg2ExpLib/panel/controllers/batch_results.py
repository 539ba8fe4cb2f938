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
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.desk import Desk, sentence
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
    desk : Desk
        Runs the tasks.
    inputs, presenter : InputsSection, Presenter
        Where a case is opened.
    use_profile : callable
        Opens a reference profile in the anomaly section.
    """

    def __init__(
        self,
        section: BatchSection,
        desk: Desk,
        inputs: InputsSection,
        presenter: Presenter,
        use_profile: Callable[[str], None],
    ) -> None:
        self._section, self._desk = section, desk
        self._inputs, self._presenter, self._use_profile = inputs, presenter, use_profile
        self._loading: Background | None = None

    def report(self, folder: str) -> None:
        """Have the report made, then open it."""
        out = Path(folder) / REPORT_FILE
        self._desk.run(
            lambda: self._desk.tasks.cohort_report(folder, out), lambda *_: self._on_report(out), self._section.line
        )

    def _on_report(self, out: Path) -> None:
        self._section.line.say(_("The report is {out}.").format(out=out))
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(out)))

    def fit(self, folder: str) -> None:
        """Have a reference profile fitted, then open it in the anomaly section."""
        out = Path(folder) / f"{safe_file_name(Path(folder).name)}-profile.npz"
        self._desk.run(
            lambda: self._desk.tasks.fit_profile(folder, out), lambda *_: self._on_fitted(out), self._section.line
        )

    def _on_fitted(self, out: Path) -> None:
        self._section.line.say(
            _("The reference profile is {out}; it is open under 'Is this patient unusual?'.").format(out=out)
        )
        self._use_profile(str(out))

    def open_case(self, cohort: str, one: CaseState) -> None:
        """Show a case: its explanation when it was kept, else its CT."""
        folder = kept_explanation(cohort, one.case)
        if folder is not None:
            self._presenter.show_folder(folder)
            self._section.line.say(_("{case} is shown.").format(case=one.case))
            return
        self._section.line.say(_("Reading {image} …").format(image=one.image))

        def read() -> Any:
            from Agg2ExpLib.volume import read_volume

            return read_volume(one.image)

        self._loading = Background(read)
        self._loading.finished.connect(lambda volume, error: self._on_loaded(one, volume, error))
        self._loading.start()

    def _on_loaded(self, one: CaseState, volume: Any, error: BaseException | None) -> None:
        from Agg2ExpLib.scene.volumes import fill_volume_node

        if error is not None:
            self._section.line.say(sentence(str(error)))
            return
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", one.case)
        fill_volume_node(node, volume)
        node.CreateDefaultDisplayNodes()
        self._inputs.volume.setCurrentNode(node)
        self._section.line.say(
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
