"""What the module can do without a window, for the Python console and for scripts: nodes in, nodes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.panel.cohort_logic import CohortLogic, run
from Agg2ExpLib.panel.compute.packages import ensure_packages
from Agg2ExpLib.panel.compute.runner import Runner
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.compute.task_maker import TaskMaker
from Agg2ExpLib.panel.controllers.reference import keep_verdicts
from Agg2ExpLib.panel.controllers.whatif import Change, read_whatif, show_whatif_segmentation
from Agg2ExpLib.panel.current_explanation import CurrentExplanation, shown_in
from Agg2ExpLib.panel.nodes import first_scan, segment_volume, segments_of
from Agg2ExpLib.panel.user_settings import UserSettings
from Agg2ExpLib.panel.words.choices import Choices, choices_of
from Agg2ExpLib.panel.words.verdicts import Verdicts, verdicts_of

if TYPE_CHECKING:
    from Agg2ExpLib.progress import Event
    from Agg2ExpLib.scene import SceneExplanation


class PanelLogic(CohortLogic):
    """The public methods of the module's logic; camelCase, as Slicer's are."""

    def __init__(self) -> None:
        self.settings = UserSettings(slicer.app.userSettings())
        self.tasks, self.runner = TaskMaker(self.settings), Runner()

    def explain(
        self,
        inputVolume: Any,
        model: str = "thorax-phantom",
        structures: Sequence[str] | None = None,
        method: str = "smoothgrad",
        samples: int = 20,
        rois: Any = None,
        *,
        outputSegmentation: Any = None,
        outputFolder: str | Path | None = None,
        waitForCompletion: bool = True,
        **options: Any,
    ) -> SceneExplanation | Task:
        """Segment a CT, explain the segmentation and put both into the scene.

        Parameters
        ----------
        inputVolume : vtkMRMLScalarVolumeNode, or a list of them
            CT in Hounsfield units; or one volume for each channel of the model, in its order and on one grid.
        model : str
            Name of a bundled model, a model folder, or a checkpoint file.
        structures : sequence of str, optional
            What is explained; every structure of the model by default.
        method, samples
            As the options of ``agg2exp explain``.
        rois : vtkMRMLSegmentationNode, optional
            Its segments become extra regions.
        outputSegmentation : vtkMRMLSegmentationNode, optional
            Gets the predicted structures; a new node by default.
        outputFolder : path, optional
            Explanation folder; a new one in the folder of results by default.
        waitForCompletion : bool
            Return when all is in the scene (the window stays alive meanwhile), or at once.
        **options
            ``reduction``, ``seed``, ``precision``, ``device``, ``overlap``, and every other option of the method, as of
            ``agg2exp explain``. ``interactive``: whether missing packages may be asked for and installed; a script fails
            instead. ``progressCallback``: called with each :class:`~Agg2ExpLib.progress.Event`. ``completedCallback``: called
            with the result when ``waitForCompletion`` is false.

        Returns
        -------
        SceneExplanation or Task
            What is in the scene; or the running task, with ``cancel()`` and ``wait()``.

        Raises
        ------
        InputError
            A choice, the CT or the environment cannot be used.
        RuntimeError
            The child process failed or was cancelled, in one sentence.

        Examples
        --------
        In Slicer's Python console::

            logic = slicer.util.getModuleLogic("Agg2Exp")
            shown = logic.explain(slicer.util.getNode("CT"), structures=["heart"], samples=5)
            shown.show_overlay("heart", "signed")
        """
        interactive = bool(options.pop("interactive", False))
        told: Callable[[Event], None] | None = options.pop("progressCallback", None)
        completed: Callable[[SceneExplanation], None] | None = options.pop("completedCallback", None)
        wanted = None if structures is None else tuple(structures)
        if wanted == ():
            raise InputError("tick at least one structure, or leave structures out for all of them")
        choices = choices_of(model=model, structures=wanted, method=method, samples=samples, **options)
        problem = choices.problem()
        if problem:
            raise InputError(problem)
        if interactive and not self.settings.interpreter():
            report = ensure_packages()
            if not report.ready:
                raise InputError(report.sentence)
        out = Path(outputFolder) if outputFolder else None
        task = self.tasks.explain(inputVolume, choices, rois, out)

        def put() -> SceneExplanation:
            first = inputVolume[0] if isinstance(inputVolume, (list, tuple)) else inputVolume
            return self.openExplanation(task.out or "", first, outputSegmentation)

        if told:
            task.progressed.connect(told)
        return run(self.runner, task, put, waitForCompletion, completed)

    def firstVolume(self) -> Any:
        """Return the first volume of the scene that is no overlay of an explanation; ``None`` when there is none."""
        return first_scan(slicer.mrmlScene)

    def process(self, inputVolume: Any, outputSegmentation: Any = None, **options: Any) -> SceneExplanation | Task:
        """Do what :meth:`explain` does, in the order of parameters that Slicer's other segmentation modules have."""
        return self.explain(inputVolume, outputSegmentation=outputSegmentation, **options)

    def openExplanation(
        self, folder: str | Path, inputVolume: Any = None, outputSegmentation: Any = None
    ) -> SceneExplanation:
        """Put an Explanation folder into the scene."""
        from Agg2ExpLib.explanation import Explanation
        from Agg2ExpLib.scene import show_explanation

        return show_explanation(
            Explanation.load(folder), slicer.mrmlScene, ct_node=inputVolume, segmentation_node=outputSegmentation
        )

    def whatIf(self, shown: SceneExplanation, region: str, fill: str = "shell", rois: Any = None) -> list[Change]:
        """Replace a region, predict again, put the second segmentation into the scene and return what changed.

        Parameters
        ----------
        shown : SceneExplanation
            What :meth:`explain` returned.
        region : str
            A structure or region of the explanation, or the name of a segment of ``rois``.
        fill : str
            ``air``, ``shell`` or ``noise``.
        rois : vtkMRMLSegmentationNode, optional
            Where the region is painted.
        """
        mask = None
        for one in segments_of(rois):
            if one.name == region:
                mask = segment_volume(rois, one.identifier)
        task = self.runner.start(self.tasks.whatif(shown.explanation.folder, region, fill, mask=mask))
        task.result()
        assert task.out is not None
        saved = next(one for one in shown_in(slicer.mrmlScene) if one.key == shown.key)
        show_whatif_segmentation(task.out, CurrentExplanation(saved), region)
        return read_whatif(task.out)

    def scoreAgainst(
        self,
        explanation: SceneExplanation | str | Path,
        profilePath: str | Path,
        waitForCompletion: bool = True,
        *,
        falseAlarms: float = FALSE_ALARMS,
        completedCallback: Callable[[Verdicts], None] | None = None,
    ) -> Verdicts | Task:
        """Say of each structure whether its explanation is unusual against a reference, and why.

        Parameters
        ----------
        explanation : SceneExplanation or path
            What :meth:`explain` returned, or an Explanation folder; in the first case the verdicts are kept with the scene.
        profilePath : path
            Reference profile (``.npz``) of the same model and settings, made with ``agg2exp profile fit``.
        waitForCompletion : bool
            Return the verdicts, or at once the running task.
        falseAlarms : float
            Share of reference cases that may be called unusual, 0 to 1.
        completedCallback : callable, optional
            Called with the verdicts when ``waitForCompletion`` is false.

        Raises
        ------
        RuntimeError
            The profile cannot be read or is of another model or other settings, in one sentence.
        """
        saved = next((one for one in shown_in(slicer.mrmlScene) if one.key == getattr(explanation, "key", None)), None)
        folder = Path(explanation) if isinstance(explanation, (str, Path)) else explanation.explanation.folder
        task = self.tasks.score(folder, profilePath, falseAlarms)

        def keep() -> Verdicts:
            assert task.outcome is not None
            found = verdicts_of(task.outcome.answer, str(profilePath), falseAlarms)
            if saved is not None:
                keep_verdicts(saved.anchor, found)
            return found

        return run(self.runner, task, keep, waitForCompletion, completedCallback)

    def estimateCost(self, inputVolume: Any, **choices: Any) -> dict[str, Any]:
        """Return what an explanation would cost: windows, passes, seconds, bytes, device; choices as for :meth:`explain`."""
        return self.runner.start(self.tasks.estimate(inputVolume, Choices(**choices))).result().answer or {}

    def checkEnvironment(self) -> dict[str, Any]:
        """Return packages and devices of the computing Python."""
        return self.runner.start(self.tasks.environment()).result().answer or {}

    def importanceTable(self, shown: SceneExplanation) -> Any:
        """Return the importance table as a pandas data frame, one line per structure and region.

        Raises
        ------
        InputError
            pandas is not installed; :meth:`importanceRows` needs nothing.
        """
        try:
            import pandas
        except ImportError:
            raise InputError(
                "pandas is not installed in this Slicer; install it with slicer.packaging.pip_install('pandas'), or use "
                "logic.importanceRows(shown), which needs no package"
            ) from None
        return pandas.DataFrame(self.importanceRows(shown))

    def importanceRows(self, shown: SceneExplanation) -> list[dict[str, Any]]:
        """Return the importance table as a list of dictionaries, one per structure and region."""
        table = shown.explanation.importance
        return [
            {"class": name, "roi": roi} | {key: float(values[row, column]) for key, values in table.values.items()}
            for row, name in enumerate(table.classes)
            for column, roi in enumerate(table.rois)
        ]

    def stopAll(self) -> None:
        """End every child process, now."""
        self.runner.stop_all()
        self.tasks.scans.clear()
