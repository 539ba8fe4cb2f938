"""Many patients, references and comparisons of methods without a window, for the Python console and for scripts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.compute.runner import Runner
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.compute.task_maker import TaskMaker
from Agg2ExpLib.panel.controllers.batch_results import result_of
from Agg2ExpLib.panel.controllers.reference import chart_of, verdicts_in
from Agg2ExpLib.panel.current_explanation import shown_in
from Agg2ExpLib.panel.words.choices import Choices

if TYPE_CHECKING:
    from Agg2ExpLib.progress import Event
    from Agg2ExpLib.scene import SceneExplanation


class CohortLogic:
    """Methods of the module's logic; camelCase, as Slicer's are."""

    tasks: TaskMaker
    runner: Runner

    def runCohort(
        self,
        cases: str | Path,
        outputFolder: str | Path,
        *,
        keepExplanations: bool = False,
        retryFailed: bool = False,
        workers: int = 1,
        waitForCompletion: bool = True,
        progressCallback: Callable[[Event], None] | None = None,
        completedCallback: Callable[[dict[str, Any]], None] | None = None,
        **choices: Any,
    ) -> dict[str, Any] | Task:
        """Explain every case of a folder or table; called again with the same folder it goes on where it stopped.

        Parameters
        ----------
        cases : path
            Folder of scans, case folders or DICOM studies; or a table (CSV) with the columns ``id`` and ``image``.
        outputFolder : path
            Cohort folder.
        keepExplanations, retryFailed : bool
            Keep the attribution volumes; try failed cases again.
        workers : int
            Processes.
        waitForCompletion : bool
            Return the result, or at once the running task.
        progressCallback : callable, optional
            Called with each :class:`~Agg2ExpLib.progress.Event`; a unit is a case.
        completedCallback : callable, optional
            Called with the result when ``waitForCompletion`` is false.
        **choices
            ``model``, ``structures``, ``method``, ``samples`` ... as for :meth:`explain`.

        Returns
        -------
        dict or Task
            ``folder``, ``finished``, ``failed``, ``waiting``, and ``reasons`` by case; or the task.

        Raises
        ------
        InputError
            A choice cannot be used.
        RuntimeError
            The child process failed or refused, in one sentence.

        Examples
        --------
        In Slicer's Python console::

            result = logic.runCohort("/data/cts", "/data/cohort", structures=["heart"], samples=5)
            profile = logic.fitProfile(result["folder"], "/data/healthy.npz")
        """
        structures = choices.pop("structures", None)
        if structures is not None and not structures:
            raise InputError("tick at least one structure, or leave structures out for all of them")
        chosen = Choices(structures=None if structures is None else tuple(structures), **choices)
        if chosen.problem():
            raise InputError(chosen.problem())
        options = chosen.options() | {"workers": workers}
        task = self.tasks.cohort(cases, outputFolder, options, keepExplanations, retryFailed)
        if progressCallback:
            task.progressed.connect(progressCallback)
        return run(self.runner, task, lambda: result_of(outputFolder), waitForCompletion, completedCallback)

    def fitProfile(
        self,
        cohortFolder: str | Path,
        profilePath: str | Path,
        waitForCompletion: bool = True,
        *,
        completedCallback: Callable[[Path], None] | None = None,
    ) -> Path | Task:
        """Fit a reference profile (``.npz``) to a cohort folder and return its path; :meth:`scoreAgainst` uses it."""
        task = self.tasks.fit_profile(cohortFolder, profilePath)
        return run(self.runner, task, lambda: Path(profilePath), waitForCompletion, completedCallback)

    def cohortReport(
        self,
        cohortFolder: str | Path,
        reportPath: str | Path,
        waitForCompletion: bool = True,
        *,
        completedCallback: Callable[[Path], None] | None = None,
    ) -> Path | Task:
        """Write the report (``.html``) of a cohort folder and return its path."""
        task = self.tasks.cohort_report(cohortFolder, reportPath)
        return run(self.runner, task, lambda: Path(reportPath), waitForCompletion, completedCallback)

    def scoreReferencePlot(self, shown: SceneExplanation, structure: str, show: bool = False) -> Any:
        """Return the plot (vtkMRMLPlotChartNode) of a structure's score among those of the reference.

        Parameters
        ----------
        shown : SceneExplanation
            What :meth:`explain` returned, after :meth:`scoreAgainst`.
        structure : str
            Identifier.
        show : bool
            Show it beside the views.

        Raises
        ------
        InputError
            It was not compared, or the structure has no score.
        """
        saved = next(one for one in shown_in(slicer.mrmlScene) if one.key == shown.key)
        found = verdicts_in(saved.anchor)
        one = found.of(structure) if found else None
        chart = chart_of(saved, one) if one else None
        if chart is None:
            known = [each.structure for each in found.verdicts if each.plotted] if found else []
            there = f"there are {', '.join(known)}" if known else "call scoreAgainst first"
            raise InputError(f"{structure!r} has no score against a reference; {there}")
        if show:
            views.show_plot_and_table(chart, saved.table_node)
        return chart

    def compareMethods(
        self,
        shown: SceneExplanation,
        methods: Sequence[str] | None = None,
        waitForCompletion: bool = True,
        *,
        structures: Sequence[str] | None = None,
        model: str | None = None,
        completedCallback: Callable[[list[dict[str, str]]], None] | None = None,
        **options: Any,
    ) -> list[dict[str, str]] | Task:
        """Measure the quality of attribution methods on the CT and the model of an explanation.

        Parameters
        ----------
        shown : SceneExplanation
            What :meth:`explain` returned.
        methods : sequence of str, optional
            As of ``agg2exp compare-methods``: ``gradient``, ``smoothgrad=5`` ...; by default the panel's quick comparison.
        waitForCompletion : bool
            Return the rows of the table, or at once the running task, whose ``out`` is the folder.
        structures : sequence of str, optional
            By default those that were explained.
        model : str, optional
            By default the bundled model of the explanation's model name, else the file that was explained.
        completedCallback : callable, optional
            Called with the rows when ``waitForCompletion`` is false.
        **options
            More options of the command, such as ``copies=3``.

        Raises
        ------
        InputError
            The explanation's CT is gone from the scene.
        RuntimeError
            The child process failed or refused, in one sentence.
        """
        from Agg2ExpLib.models import bundled_models

        if shown.ct_node is None:
            raise InputError("the CT of this explanation is no longer in the scene; load it and explain it again")
        told = shown.explanation.document["model"]
        source = model or (told["name"] if told["name"] in bundled_models() else str(told.get("path", "")))
        choices = Choices(model=source, structures=tuple(structures or shown.classes))
        wanted = dict(options) if methods is None else {"methods": tuple(methods), **options}
        task = self.tasks.compare(shown.ct_node, choices, {k.replace("_", "-"): v for k, v in wanted.items()})
        return run(self.runner, task, lambda: _rows(task), waitForCompletion, completedCallback)


def run(runner: Runner, task: Task, answer: Callable[[], Any], wait: bool, told: Callable[[Any], None] | None) -> Any:
    """Start a task; return its answer, or the running task and tell the answer later."""
    if not wait and told:
        task.finished.connect(lambda outcome: told(answer()) if outcome.status == "done" else None)
    runner.start(task)
    if not wait:
        return task
    task.result()
    return answer()


def _rows(task: Task) -> list[dict[str, str]]:
    assert task.out is not None
    with (task.out / "quality_table.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
