"""Many cases: one after the other in this process, or spread over workers by Dask; stopped at any time and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.spread import count_gpus, spread
from Agg2ExpLib.cohort.run.store import CohortFolder, arrow
from Agg2ExpLib.cohort.run.work import CaseWorker, Job
from Agg2ExpLib.cohort.table.assemble import assemble
from Agg2ExpLib.device import count_cores
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.request import planned_identity


@dataclass(frozen=True)
class Summary:
    """What a run came to: numbers of cases finished in all, finished before it began, and failed in all."""

    folder: Path
    finished: int
    before: int
    failed: int
    reasons: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """Return it in words."""
        lines = [
            f"{self.finished} {'case' if self.finished == 1 else 'cases'} explained"
            + (f" ({self.before} of them before)" if self.before else "")
            + (f", {self.failed} failed" if self.failed else "")
        ]
        lines += [f"  {case}: {reason}" for case, reason in self.reasons[:20]]
        if len(self.reasons) > 20:
            lines.append(f"  and {len(self.reasons) - 20} more; all of them are in cases.parquet")
        if self.failed:
            lines.append("mend what can be mended and run the same command with --retry-failed")
        return "\n".join([*lines, f"{self.folder}/importance.parquet, classes.parquet, cases.parquet"])


def default_workers(device: str = "auto") -> int:
    """Return how many workers this machine can keep busy: its GPUs, else its cores."""
    gpus = count_gpus() if device == "auto" else 0
    return gpus or (1 if device.startswith("cuda") else count_cores())


def run_cohort(
    cases: Sequence[CohortCase],
    job: Job,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Explain every case that is not finished, then write the tables.

    Parameters
    ----------
    cases : sequence of CohortCase
        From :func:`~Agg2ExpLib.cohort.run.cases.find_cohort`.
    job : Job
        Model, settings and folder.
    workers : int, optional
        Processes on this machine; 1 works in this process. Default: one per GPU, else one per core.
    scheduler : str, optional
        Address of a Dask scheduler to use instead; its workers must see the folder and the scans under the same paths.
    retry_failed : bool
        Try failed cases again.
    wait : bool
        Wait for another run that is at work on the folder, then go on with it, rather than be refused.
    progress : Progress
        One unit a case.

    Returns
    -------
    Summary
        Counts, and the reasons of failures.

    Raises
    ------
    InputError
        The folder was made with another model or other settings; no such class; no such scheduler.
    OutputError
        The folder holds something else, another run is at work on it, or it cannot be written.
    """
    progress = progress or Progress()
    arrow()
    model = job.load()
    job.request.class_indices(model.card.labels)
    store = CohortFolder(job.folder)
    waiting = partial(progress.stage, "waiting for another run", 1) if wait else None
    with store.open(waiting):
        everything = store.prepare(planned_identity(model, job.request), cases)
        todo = [case for case in everything if not store.has(case.id)]
        before = len(everything) - len(todo)
        if not retry_failed:
            todo = [case for case in todo if store.failure(case.id) is None]
        progress.stage("cases", len(everything), before=len(everything) - len(todo))
        count = min(workers or default_workers(job.request.compute.device), max(len(todo), 1))
        if scheduler or count > 1:
            del model
            outcomes = spread(todo, job, count, scheduler)
        else:
            worker = CaseWorker(job, model)
            outcomes = (worker.run(case) for case in todo)
        for outcome in outcomes:
            if not outcome.ok:
                progress.message(f"{outcome.case} failed: {outcome.reason}")
            progress.advance(detail=outcome.case)
        finished, failed = assemble(store)
        reasons = tuple(
            (case.id, why) for case in everything if not store.has(case.id) and (why := store.failure(case.id))
        )
    return Summary(job.folder, finished, before, failed, reasons)
