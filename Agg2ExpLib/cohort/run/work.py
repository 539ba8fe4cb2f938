"""One case of a cohort: explain it, compare it with its ground truth, write its part. This is what workers do."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.agreement import dice_of_labels
from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.store import CohortFolder, file_stem
from Agg2ExpLib.device import use_threads
from Agg2ExpLib.errors import Agg2ExpError, Cancelled, InputError, OutputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.regions import present_regions
from Agg2ExpLib.request import Request, difference, identity_of
from Agg2ExpLib.training.cases import Case
from Agg2ExpLib.volume import Volume, read_volume, to_grid

if TYPE_CHECKING:
    from Agg2ExpLib.progress import Progress

#: mm within which two surfaces count as the same; TotalSegmentator's evaluation uses this too.
SURFACE_TOLERANCE = 3.0


@dataclass(frozen=True)
class Job:
    """What is done to every case; sent to each worker once.

    Attributes
    ----------
    folder : Path
        The cohort folder; every worker must see it under this path.
    load : callable
        Returns the model; called once per worker.
    request : Request
        Of the explanations.
    keep : bool
        Keep the Explanation folders (attribution volumes) under ``explanations/``.
    surface_tolerance : float
        mm, for surface Dice.
    threads : int
        CPU threads per worker; 0 leaves them as they are, and gives workers of this machine equal parts of its cores.
    explain : callable, optional
        Stands in for :func:`Agg2ExpLib.explanation.explain`.
    """

    folder: Path
    load: Callable[[], Any]
    request: Request
    keep: bool = False
    surface_tolerance: float = SURFACE_TOLERANCE
    threads: int = 0
    explain: Callable[..., Explanation] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a case; all that travels back from a worker."""

    case: str
    reason: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether its part is written."""
        return not self.reason


class CaseWorker:
    """Does cases one after the other with one loaded model.

    Parameters
    ----------
    job : Job
        What to do.
    model : SegmentationModel, optional
        Already loaded; otherwise it is loaded for the first case.
    """

    def __init__(self, job: Job, model: Any = None) -> None:
        self.job, self.store = job, CohortFolder(job.folder)
        self._model = model
        self._sized = False
        self._wanted: Mapping[str, Any] = {}
        # A worker of an existing cluster may have several threads; the network is used by one at a time.
        self._one_at_a_time = threading.Lock()

    def run(self, case: CohortCase, progress: Progress | None = None) -> Outcome:
        """Explain one case and write its part, or note why it failed.

        Raises
        ------
        OutputError
            The cohort folder cannot be written: no other case would fare better.
        Cancelled
            When ``progress`` says so.
        """
        with self._one_at_a_time:
            # Of a case that was handed on because its worker died, the part may be there.
            if self.store.has(case.id):
                return Outcome(case.id)
            begin = time.perf_counter()
            try:
                if case.problem:
                    raise InputError(case.problem)
                self._explain(case, progress)
                return Outcome(case.id, seconds=time.perf_counter() - begin)
            except (OutputError, Cancelled):
                raise
            except Agg2ExpError as error:
                reason = str(error)
            except MemoryError:
                reason = "not enough memory for this case"
            except Exception as error:  # whatever one case does to a library, the others go on
                reason = f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
            self.store.write_failure(case.id, reason)
            return Outcome(case.id, reason, time.perf_counter() - begin)

    def _explain(self, case: CohortCase, progress: Progress | None) -> None:
        model = self._loaded()
        # Loading the model is the worker's cost, not the case's.
        begin = time.perf_counter()
        truth = _read_truth(case, model.card.labels)
        with self._place(case.id) as folder:
            explanation = self._kept(folder, case) or self._fresh(case, model, folder, progress)
            told = difference(self._identity(), identity_of(explanation.document))
            if told:
                raise InputError(f"its explanation does not belong to this cohort: {told}")
            agreement = {}
            if truth is not None:
                agreement = agreement_of(
                    explanation.prediction(), truth, explanation.labels, self.job.surface_tolerance
                )
            note = {
                "identity": identity_of(explanation.document),
                "sources": case.sources(),
                "seconds": round(time.perf_counter() - begin, 3),
                "messages": list(explanation.document["messages"]),
            }
            self.store.write_part(case.id, explanation.importance, agreement, note)

    def _loaded(self) -> Any:
        if not self._sized and self.job.threads:
            use_threads(self.job.threads)
        self._sized = True
        if self._model is None:
            self._model = self.job.load()
        return self._model

    @contextlib.contextmanager
    def _place(self, case: str) -> Any:
        """Yield where the explanation goes; it is removed afterwards unless it is to be kept."""
        if self.job.keep:
            self.store.explanations.mkdir(exist_ok=True)
            yield self.store.explanations / file_stem(case)
            return
        folder = self.store.work / f"{file_stem(case)}.{secrets.token_hex(4)}"
        folder.parent.mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _kept(self, folder: Path, case: CohortCase) -> Explanation | None:
        """Return the explanation of a run that was killed between explanation and part."""
        if not folder.is_dir():
            return None
        try:
            found = Explanation.load(folder)
        except InputError:
            return None
        same = found.document["image"].get("path") == str(case.image.resolve())
        return found if same and not difference(self._identity(), identity_of(found.document)) else None

    def _identity(self) -> Mapping[str, Any]:
        if not self._wanted:
            self._wanted = self.store.document()["identity"]
        return self._wanted

    def _fresh(self, case: CohortCase, model: Any, folder: Path, progress: Progress | None) -> Explanation:
        explain = self.job.explain or _library_explain()
        return explain(
            case.image,
            model,
            folder,
            self.job.request,
            regions=present_regions(case.regions),
            overwrite=folder.exists(),
            progress=progress,
        )


def _library_explain() -> Callable[..., Explanation]:
    from Agg2ExpLib.explanation.run import explain

    return explain


def _read_truth(case: CohortCase, labels: tuple[str, ...]) -> Volume | None:
    """Read the ground truth before the long work, so that what is wrong with it is known at once."""
    if case.truth is None:
        return None
    if case.truth.is_dir():
        return Case(case.id, case.image, masks=case.truth).read(labels)[1]
    truth = read_volume(case.truth, kind="labels")
    if int(truth.voxels.max()) >= len(labels):
        raise InputError(
            f"{case.truth} has label {int(truth.voxels.max())}, but the model has {len(labels)} classes (0 is background)"
        )
    return truth


def agreement_of(
    prediction: Volume, truth: Volume, labels: tuple[str, ...], tolerance: float = SURFACE_TOLERANCE
) -> dict[str, dict[str, float]]:
    """Dice and surface Dice of each class but background, on the grid of the prediction.

    Parameters
    ----------
    prediction, truth : Volume
        Label maps; a truth on another grid is resampled (nearest neighbour).
    labels : tuple of str
        Class names.
    tolerance : float
        mm within which the surfaces agree.

    Returns
    -------
    dict
        Class -> ``dice`` and ``surface_dice``; a class that neither has is left out.
    """
    if not truth.grid.same_as(prediction.grid):
        truth = to_grid(truth, prediction.grid, "nearest")
    found, wanted = prediction.voxels, truth.voxels.astype(prediction.voxels.dtype, copy=False)
    dice = dice_of_labels(found.astype(np.int64, copy=False), wanted.astype(np.int64, copy=False), len(labels))
    agreement = {}
    for index in range(1, len(labels)):
        if np.isfinite(dice[index]):
            surface = surface_dice(found == index, wanted == index, prediction.spacing, tolerance)
            agreement[labels[index]] = {"dice": float(dice[index]), "surface_dice": surface}
    return agreement


def surface_dice(found: np.ndarray, wanted: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> float:
    """Share of two masks' surfaces that lie within ``tolerance`` mm of each other, by MONAI; 0 when one is empty."""
    if not found.any() or not wanted.any():
        return 0.0
    import torch
    from monai.metrics import compute_surface_dice

    box = _box_around(found | wanted)
    first, second = (torch.from_numpy(np.stack([~mask[box], mask[box]])[None]) for mask in (found, wanted))
    with warnings.catch_warnings():
        # MONAI warns of an argument that MONAI itself passes.
        warnings.simplefilter("ignore", FutureWarning)
        shares = compute_surface_dice(first, second, [tolerance], spacing=[float(step) for step in spacing])
    return float(shares[0, 0])


def _box_around(mask: np.ndarray, margin: int = 2) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(int(inside[0]) - margin, 0), int(inside[-1]) + margin + 1))
    return tuple(box)
