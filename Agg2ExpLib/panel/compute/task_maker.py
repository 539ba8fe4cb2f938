"""From nodes and choices to tasks: which files are handed over, which command runs, where the result goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS
from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.panel.compute.background import load_libraries
from Agg2ExpLib.panel.compute.interpreter import interpreter, program
from Agg2ExpLib.panel.compute.scan_files import SUFFIX, ScanFile, ScanFiles
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.nodes import named_segments, segment_volume
from Agg2ExpLib.panel.user_settings import UserSettings
from Agg2ExpLib.panel.words.choices import QUICK, Choices, comparison_options
from Agg2ExpLib.storage import discard_folder, safe_file_name
from Agg2ExpLib.task_file import TaskFile

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

#: Kind of the task that works on many cases: it belongs to no scene.
COHORT = "cohort"


class TaskMaker:
    """Makes tasks; :class:`~Agg2ExpLib.panel.compute.runner.Runner` starts them.

    Parameters
    ----------
    settings : UserSettings
        The interpreter and the folder of results.

    Attributes
    ----------
    scans : ScanFiles
        The scan that was handed over last.
    """

    def __init__(self, settings: UserSettings) -> None:
        self.settings = settings
        self.scans = ScanFiles()

    def explain(
        self, volume_node: Any, choices: Choices, segmentation_node: Any = None, out: Path | None = None
    ) -> Task:
        """Return the task that explains a scan.

        Parameters
        ----------
        volume_node : vtkMRMLScalarVolumeNode, or a sequence of them
            The CT; or one volume for each channel of the model, in its order.
        choices : Choices
            Model, structures, settings.
        segmentation_node : vtkMRMLSegmentationNode, optional
            Its segments become extra regions.
        out : path, optional
            Explanation folder; by default a new one in the folder of results.

        Raises
        ------
        InputError, OutputError
            A CT without voxels, no interpreter, or nowhere to write.
        """
        scan, first = self._scan(volume_node)
        segments = named_segments(segmentation_node, choices.labels())
        masks = {name: segment_volume(segmentation_node, one.identifier) for one, name in segments.items()}
        given = {name: mask for name, mask in masks.items() if mask is not None}
        target = out or self._new_folder(first)
        options = {"out": target, **choices.options()}
        return self._task("explain", "the explanation", "explain", scan, options, masks=given, out=target)

    def _scan(self, nodes: Any) -> tuple[tuple[ScanFile, ...], str]:
        """Return the files of one node or several, and the name of the first."""
        several = tuple(nodes) if isinstance(nodes, (list, tuple)) else (nodes,)
        return self.scans.all_of(several), several[0].GetName()

    def estimate(self, volume_node: Any, choices: Choices) -> Task:
        """Return the task that says what an explanation would cost."""
        if choices.structures == ():
            # Which ones are the largest is not known before the segmentation, nor does it matter here.
            choices = replace(choices, structures=choices.labels()[1 : 1 + QUICK] or None)
        return self._task("estimate", "the estimate", "estimate", self._scan(volume_node)[0], choices.options())

    def whatif(
        self, folder: Path, region: str, fill: str, *, mask: Volume | None = None, device: str = "auto", seed: int = 0
    ) -> Task:
        """Return the task that replaces a region and predicts again."""
        name = region.replace("=", "-")
        target = self._new_folder(f"{folder.name}-without-{safe_file_name(region)}")
        options = {"out": target, "fill": fill, "device": device, "seed": seed}
        if mask is not None:
            return self._task("whatif", "the what-if", "whatif", folder, options, masks={name: mask}, out=target)
        return self._task("whatif", "the what-if", "whatif", folder, options | {"roi": name}, out=target)

    def needs(self, folder: Path, structure: str, device: str = "auto") -> Task:
        """Return the task that finds how much around a structure the model needs; its answer says so."""
        return self._task("needs", "the question", "needs", folder, {"class": structure, "device": device})

    def instances(self, folder: Path, structure: str, method: str = "", device: str = "auto") -> Task:
        """Return the task that explains each instance of a structure; its answer is their table."""
        options = {"classes": structure, "method": method, "device": device}
        return self._task("instances", "the explanation of instances", "instances", folder, options)

    def figures(self, folder: Path, out: Path, options: Mapping[str, object]) -> Task:
        """Return the task that draws the figures of an explanation."""
        return self._task("figures", "drawing", "figures", folder, {"out": out, **options}, out=out)

    def export(self, folder: Path, kind: str, out: Path) -> Task:
        """Return the task that writes an explanation as ``dicom`` or ``html``."""
        # Whoever chose a page that exists was asked by the dialog already.
        options = {kind: out, **({"overwrite": True} if kind == "html" else {})}
        return self._task("export", "the export", "export", folder, options, out=out if kind == "dicom" else None)

    def compare(self, volume_node: Any, choices: Choices, others: Mapping[str, Any] | None = None) -> Task:
        """Return the task that measures the quality of several methods on a CT; ``others`` are options of the command."""
        scan, name = self._scan(volume_node)
        out = self._new_folder(f"{name}-methods")
        options = {"out": out, **comparison_options(choices), **dict(others or {}), "no-randomisation": True}
        task = self._task("compare", "the comparison of methods", "compare-methods", scan, options, out=out)
        # The command keeps half a comparison to go on with; the panel begins a new one each time.
        task.finished.connect(lambda outcome: None if outcome.status == "done" else _remove(out))
        return task

    def score(self, folder: Path, profile: str | Path, false_alarms: float = FALSE_ALARMS) -> Task:
        """Return the task that scores an explanation against a reference profile; its answer is the scores' document."""
        options = {"profile": Path(profile), "false-alarms": f"{false_alarms:g}"}
        return self._task("score", "the comparison", "profile score", folder, options, answer="scores.json")

    def cohort(
        self,
        cases: str | Path,
        out: str | Path,
        options: Mapping[str, object],
        keep: bool = False,
        retry_failed: bool = False,
    ) -> Task:
        """Return the task that explains many cases; stopped at any time, the same task made anew goes on."""
        given = {"out": Path(out), **options, "keep": keep, "retry-failed": retry_failed}
        return self._task(COHORT, "the batch", "cohort", Path(cases), given)

    def cohort_report(self, folder: str | Path, out: str | Path) -> Task:
        """Return the task that writes the report of a cohort."""
        return self._task("report", "the report", "cohort report", Path(folder), {"out": Path(out)})

    def fit_profile(self, folder: str | Path, out: str | Path) -> Task:
        """Return the task that fits a reference profile to a cohort."""
        return self._task("fit", "the reference profile", "profile fit", Path(folder), {"out": Path(out)})

    def add_model(self, source: str, options: Mapping[str, object]) -> Task:
        """Return the task that loads a model once and remembers it; its answer is the name that it has from now on."""
        found = Path(source)
        subject = str(found.absolute()) if found.exists() else source
        return self._task("model", "adding the model", "model add", subject, options)

    def environment(self) -> Task:
        """Return the task that lists packages and devices."""
        return self._task("environment", "the check", "environment", None, {})

    def _new_folder(self, name: str) -> Path:
        root = self.settings.results_folder()
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{root} cannot be made ({error.strerror}); choose another folder for results under Advanced"
            ) from error
        stem = f"{safe_file_name(name)[:60]}-{datetime.now():%Y%m%d-%H%M%S}"
        taken = [root / stem, *(root / f"{stem}-{number}" for number in range(2, 100))]
        return next(folder for folder in taken if not folder.exists())

    def _task(
        self,
        kind: str,
        name: str,
        command: str,
        subject: tuple[ScanFile, ...] | Path | str | None,
        options: Mapping[str, object],
        *,
        masks: Mapping[str, Volume] | None = None,
        out: Path | None = None,
        answer: str = "",
    ) -> Task:
        """Return a task; its folder holds the task file, masks as ``region-0.nii`` ... and what it answers with."""
        python = interpreter(self.settings.interpreter())
        scans = subject if isinstance(subject, tuple) else ()
        given = dict(masks or {})
        folder = Path(tempfile.mkdtemp(prefix="Agg2Exp-"))
        files = [folder / f"region-{number}{SUFFIX}" for number in range(len(given))]
        answer_file = folder / answer if answer else None
        words = [*arguments_of(options), *arguments_of({"out": answer_file} if answer_file else {})]
        words += [f"--roi={region}={file}" for region, file in zip(given, files, strict=True)]

        def prepare() -> None:
            from Agg2ExpLib.volume import write_volume

            handed = [scan.hand_over() for scan in scans]
            for file, mask in zip(files, given.values(), strict=True):
                write_volume(mask, file)
            first = [str(path.absolute()) for path, _origin in handed]
            if isinstance(subject, (str, Path)):
                first = [str(subject.absolute()) if isinstance(subject, Path) else subject]
            origins = [origin for _path, origin in handed]
            arguments = (*first, *words, "--progress=json")
            TaskFile(command, arguments, origins[0] if origins else None, tuple(origins[1:])).write(
                folder / "task.json"
            )

        handed_over = bool(scans or given)
        if handed_over:
            load_libraries()
        else:
            prepare()
        task = Task(
            kind,
            name,
            [python, program(), "task", str(folder / "task.json")],
            prepare=prepare if handed_over else None,
            temporary=[folder],
            surroundings=self._surroundings(),
            out=out,
            answer_file=answer_file,
        )
        if out is not None:
            # What a killed child could not remove itself.
            task.finished.connect(lambda _: discard_folder(out))
        for scan in scans:
            scan.acquire()
            task.finished.connect(lambda _, scan=scan: scan.release())
        return task

    def _surroundings(self) -> dict[str, str] | None:
        """A foreign Python gets the variables from before Slicer's launcher set its own paths."""
        if not self.settings.interpreter():
            return None
        import slicer.util

        found = slicer.util.startupEnvironment()
        return {str(key): str(value) for key, value in found.items()}


def arguments_of(options: Mapping[str, object]) -> list[str]:
    """Return options as words of a command line; ``None``, empty texts and ``False`` leave the default.

    Examples
    --------
    >>> arguments_of({"classes": ("heart", "aorta"), "samples": 5, "overlap": None, "keep": True})
    ['--classes=heart,aorta', '--samples=5', '--keep']
    """
    given = {name: value for name, value in options.items() if value is not None and value != "" and value is not False}
    return [f"--{name}" if value is True else f"--{name}={_value(value)}" for name, value in given.items()]


def _value(value: object) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(part) for part in value)
    return str(value)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
