"""From nodes and choices to tasks: which files are handed over, which command runs, where the result goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt

from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS
from Agg2ExpLib.errors import OutputError
from Agg2ExpLib.panel.compute import commands
from Agg2ExpLib.panel.compute.background import load_file_library
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.nodes import Segment, segment_volume, segments_of, volume_of
from Agg2ExpLib.panel.store import Store
from Agg2ExpLib.panel.words.choices import Choices, comparison_options
from Agg2ExpLib.storage import discard_folder, file_key, safe_file_name

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

#: Uncompressed, because compressing a chest CT takes longer than writing it.
_SUFFIX = ".nii"
#: Kind of the task that works on many cases: it belongs to no scene.
COHORT = "cohort"


class Workbench:
    """Makes tasks, and stops those that are left.

    Parameters
    ----------
    store : Store
        The interpreter and the folder of results.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tasks: list[Task] = []

    def explain(
        self,
        volume_node: Any,
        choices: Choices,
        segmentation_node: Any = None,
        out: Path | None = None,
        labels: Sequence[str] = (),
    ) -> Task:
        """Return the task that explains a CT; the caller starts it.

        Parameters
        ----------
        volume_node : vtkMRMLScalarVolumeNode
            The CT.
        choices : Choices
            Model, structures, settings.
        segmentation_node : vtkMRMLSegmentationNode, optional
            Its segments become extra regions.
        out : path, optional
            Explanation folder; by default a new one in the folder of results.
        labels : sequence of str
            The model's structures: a segment of the same name gets another.

        Raises
        ------
        InputError, OutputError
            A CT without voxels, no interpreter, or nowhere to write.
        """
        python, image = self._python(), volume_of(volume_node)
        names = region_names(segments_of(segmentation_node), labels)
        masks = {name: segment_volume(segmentation_node, one.identifier) for one, name in names.items()}
        target = out or self._new_folder(volume_node.GetName())
        temporary = self._temporary()
        scan = temporary / f"{safe_file_name(volume_node.GetName())}{_SUFFIX}"
        given = {name: mask for name, mask in masks.items() if mask is not None}
        regions = {name: temporary / f"region-{number}{_SUFFIX}" for number, name in enumerate(given)}
        files = {scan: image} | {regions[name]: mask for name, mask in given.items()}
        command = commands.explain_command(python, scan, target, choices.options(), regions)
        return self._task("explain", "the explanation", command, files, temporary, target)

    def estimate(self, volume_node: Any, choices: Choices) -> Task:
        """Return the task that says what an explanation would cost."""
        python, image, temporary = self._python(), volume_of(volume_node), self._temporary()
        scan = temporary / f"scan{_SUFFIX}"
        command = commands.estimate_command(python, scan, choices.options())
        return self._task("estimate", "the estimate", command, {scan: image}, temporary)

    def whatif(
        self, folder: Path, region: str, fill: str, *, mask: Volume | None = None, device: str = "auto", seed: int = 0
    ) -> Task:
        """Return the task that replaces a region and predicts again."""
        python = self._python()
        target = self._new_folder(f"{folder.name}-without-{safe_file_name(region)}")
        options = {"fill": fill, "device": device, "seed": seed}
        temporary = self._temporary() if mask is not None else None
        file = temporary / f"region{_SUFFIX}" if temporary else None
        command = commands.whatif_command(python, folder, region.replace("=", "-"), target, options, file)
        files = {file: mask} if file is not None and mask is not None else {}
        return self._task("whatif", "the what-if", command, files, temporary, target)

    def figures(self, folder: Path, out: Path, options: Mapping[str, object]) -> Task:
        """Return the task that draws the figures of an explanation."""
        command = commands.figures_command(self._python(), folder, out, options)
        return self._task("figures", "drawing", command, {}, None, out)

    def compare(self, volume_node: Any, choices: Choices, others: Mapping[str, Any] | None = None) -> Task:
        """Return the task that measures the quality of several methods on a CT; ``others`` are options of the command."""
        python, image = self._python(), volume_of(volume_node)
        out = self._new_folder(f"{volume_node.GetName()}-methods")
        temporary = self._temporary()
        scan = temporary / f"{safe_file_name(volume_node.GetName())}{_SUFFIX}"
        command = commands.compare_command(python, scan, out, comparison_options(choices) | dict(others or {}))
        task = self._task("compare", "the comparison of methods", command, {scan: image}, temporary, out)
        # The command keeps half a comparison to go on with; the panel begins a new one each time.
        task.finished.connect(lambda outcome: None if outcome.status == "done" else _remove(out))
        return task

    def score(self, folder: Path, profile: str | Path, false_alarms: float = FALSE_ALARMS) -> Task:
        """Return the task that scores an explanation against a reference profile; its answer is the scores' document."""
        python, temporary = self._python(), self._temporary()
        scores = temporary / "scores.json"
        command = commands.score_command(python, folder, profile, scores, false_alarms)
        return self._task("score", "the comparison", command, {}, temporary, answer_file=scores)

    def cohort(
        self,
        cases: str | Path,
        out: str | Path,
        options: Mapping[str, object],
        keep: bool = False,
        retry_failed: bool = False,
    ) -> Task:
        """Return the task that explains many cases; stopped at any time, the same task made anew goes on."""
        flags = [flag for flag, on in (("keep", keep), ("retry-failed", retry_failed)) if on]
        command = commands.cohort_command(self._python(), cases, out, options, flags)
        return self._task(COHORT, "the batch", command, {}, None)

    def cohort_report(self, folder: str | Path, out: str | Path) -> Task:
        """Return the task that writes the report of a cohort."""
        return self._task("report", "the report", commands.report_command(self._python(), folder, out), {}, None)

    def fit_profile(self, folder: str | Path, out: str | Path) -> Task:
        """Return the task that fits a reference profile to a cohort."""
        return self._task("fit", "the reference profile", commands.fit_command(self._python(), folder, out), {}, None)

    def environment(self) -> Task:
        """Return the task that lists packages and devices."""
        return self._task("environment", "the check", commands.environment_command(self._python()), {}, None)

    def stop_all(self, but: str = "") -> None:
        """End everything that runs, now, but the tasks of one kind."""
        for task in list(self._tasks):
            if not but or task.kind != but:
                task.kill()

    @property
    def running(self) -> bool:
        """Whether anything is at work."""
        return any(task.running for task in self._tasks)

    def _python(self) -> str:
        return commands.interpreter(self.store.interpreter())

    def _temporary(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="Agg2Exp-"))

    def _new_folder(self, name: str) -> Path:
        root = self.store.results_folder()
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
        command: list[str],
        files: Mapping[Path, Volume],
        temporary: Path | None,
        out: Path | None = None,
        answer_file: Path | None = None,
    ) -> Task:
        if files:
            load_file_library()
        task = Task(
            kind,
            name,
            command,
            prepare=_writer(files) if files else None,
            temporary=[temporary] if temporary else [],
            surroundings=self._surroundings(),
            out=out,
            answer_file=answer_file,
        )
        self._tasks.append(task)
        task.finished.connect(lambda _: self._tasks.remove(task))
        if out is not None:
            # What a killed child could not remove itself.
            task.finished.connect(lambda _: discard_folder(out))
        return task

    def _surroundings(self) -> dict[str, str] | None:
        """A foreign Python gets the variables from before Slicer's launcher set its own paths."""
        if not self.store.interpreter():
            return None
        import slicer.util

        found = slicer.util.startupEnvironment()
        return {str(key): str(value) for key, value in found.items()}


def region_names(segments: Sequence[Segment], labels: Sequence[str]) -> dict[Segment, str]:
    """Give each segment a name that no structure of the model and no other segment has.

    Examples
    --------
    >>> one, two = (Segment("n", key, "heart", (0, 0, 0)) for key in "ab")
    >>> list(region_names([one, two], ["heart"]).values())
    ['heart (2)', 'heart (3)']
    """
    taken = {file_key(label) for label in labels}
    names = {}
    for segment in segments:
        # "=" would end the name on the command line.
        plain = segment.name.replace("=", "-").strip() or "region"
        tries = [plain, *(f"{plain} ({number})" for number in range(2, 2 + len(segments) + len(labels)))]
        name = next(one for one in tries if file_key(one) not in taken)
        taken.add(file_key(name))
        names[segment] = name
    return names


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _writer(files: Mapping[Path, Volume]) -> Callable[[], None]:
    def write() -> None:
        from Agg2ExpLib.volume import write_volume

        for path, volume in files.items():
            write_volume(volume, path)

    return write


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
