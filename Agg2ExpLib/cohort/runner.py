"""Many cases: one after the other in this process, or spread over workers by Dask; stopped at any time and gone on with.

Without further options the workers are processes on this machine. An existing cluster is used by the address of its
scheduler (``--scheduler``); start its workers with one thread each, for one loaded network is used by one case at a time.
Cases, model and output folder must have the same paths everywhere. The usual ways to such a scheduler::

    # SSH: on each machine                                    then anywhere
    dask scheduler                                            agg2exp cohort ... --scheduler tcp://HOST:8786
    dask worker tcp://HOST:8786 --nthreads 1

    # SLURM, with the package dask-jobqueue
    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, processes=1, memory="16GB", walltime="08:00:00", job_extra_directives=["--gres=gpu:1"])
    cluster.scale(jobs=32); print(cluster.scheduler_address)

    # Kubernetes, with the package dask-kubernetes
    from dask_kubernetes.operator import KubeCluster
    cluster = KubeCluster(name="agg2exp", image="IMAGE-WITH-AGG2EXP", n_workers=8)
    print(cluster.scheduler_address)

What travels is a case's paths one way and a sentence the other: workers write their own parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from Agg2ExpLib.cohort.assemble import assemble
from Agg2ExpLib.cohort.cases import CohortCase
from Agg2ExpLib.cohort.store import CohortFolder, arrow
from Agg2ExpLib.cohort.work import CaseWorker, Job, Outcome, planned_identity
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.progress import Progress

_PLUGIN = "agg2exp-case-worker"
# How long a scheduler may take to answer.
_TIMEOUT = "30s"


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
            f"{self.finished} cases explained"
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
    gpus = _gpus() if device == "auto" else 0
    return gpus or (1 if device.startswith("cuda") else os.cpu_count() or 1)


def run_cohort(
    cases: Sequence[CohortCase],
    job: Job,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Explain every case that is not finished, then write the tables.

    Parameters
    ----------
    cases : sequence of CohortCase
        From :func:`~Agg2ExpLib.cohort.cases.find_cohort`.
    job : Job
        Model, settings and folder.
    workers : int, optional
        Processes on this machine; 1 works in this process. Default: one per GPU, else one per core.
    scheduler : str, optional
        Address of a Dask scheduler to use instead; its workers must see the folder and the scans under the same paths.
    retry_failed : bool
        Try failed cases again.
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
        The folder cannot be written.
    """
    progress = progress or Progress()
    arrow()
    model = job.load()
    job.settings.class_indices(model.card.labels)
    store = CohortFolder(job.folder)
    everything = store.prepare(planned_identity(model, job.settings), cases)
    todo = [case for case in everything if not store.has(case.id)]
    before = len(everything) - len(todo)
    if not retry_failed:
        todo = [case for case in todo if store.failure(case.id) is None]
    progress.stage("cases", len(everything))
    progress.advance(len(everything) - len(todo))
    count = min(workers or default_workers(job.settings.device), max(len(todo), 1))
    if scheduler or count > 1:
        del model
        outcomes = _spread(todo, job, count, scheduler)
    else:
        worker = CaseWorker(job, model)
        outcomes = (worker.run(case) for case in todo)
    for outcome in outcomes:
        if not outcome.ok:
            progress.message(f"{outcome.case} failed: {outcome.reason}")
        progress.advance(detail=outcome.case)
    finished, failed = assemble(store)
    reasons = tuple((case.id, why) for case in everything if not store.has(case.id) and (why := store.failure(case.id)))
    return Summary(job.folder, finished, before, failed, reasons)


def _spread(todo: Sequence[CohortCase], job: Job, workers: int, scheduler: str | None) -> Iterator[Outcome]:
    """Yield outcomes as they come; a case whose worker dies is handed to another."""
    try:
        import dask
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise InputError(
            f"several workers need the package distributed ({error}); install it (pip install 'agg2exp[cohort]') "
            "or use --workers 1"
        ) from error
    # One case per worker at a time: what waits at a worker that dies would be suspected with the case that killed it.
    quiet = {"distributed.scheduler.worker-saturation": 1.0, "logging.distributed": "critical"}
    with dask.config.set(quiet), _cluster(job, workers, scheduler) as address, _connect(Client, address) as client:
        gpus = 0 if scheduler else _gpus()
        client.register_plugin(_case_plugin(_sized(job, workers, scheduler), gpus))
        futures = {
            client.submit(_run_here, case, key=f"{_PLUGIN}-{number}-{case.id}", pure=False): case
            for number, case in enumerate(todo)
        }
        store = CohortFolder(job.folder)
        for future in as_completed(list(futures)):
            case = futures.pop(future)
            try:
                yield future.result()
            except KilledWorker:
                reason = "its worker process died again and again, most often for want of memory"
                store.write_failure(case.id, reason)
                yield Outcome(case.id, reason)
            future.release()


def _sized(job: Job, workers: int, scheduler: str | None) -> Job:
    if scheduler or job.threads:
        return job
    return replace(job, threads=max(1, (os.cpu_count() or 1) // workers))


def _cluster(job: Job, workers: int, scheduler: str | None) -> Any:
    """Return a context whose value is what a client connects to."""
    import contextlib
    import logging

    if scheduler:
        return contextlib.nullcontext(scheduler)
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        # How much memory a case takes is the network's affair; Dask would end a worker that is only busy.
        memory_limit=0,
        local_directory=str(job.folder / "work"),
        silence_logs=logging.CRITICAL,
    )


def _connect(client: Any, address: Any) -> Any:
    try:
        return client(address, timeout=_TIMEOUT)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}); check the address, or leave --scheduler out"
        ) from error


def _case_plugin(job: Job, gpus: int) -> Any:
    from distributed import WorkerPlugin

    class CasePlugin(WorkerPlugin):  # type: ignore[misc, unused-ignore]
        """Keeps one loaded model for as long as its worker lives."""

        name = _PLUGIN

        def setup(self, worker: Any) -> None:
            mine = job
            if gpus and str(worker.name).isdigit():
                mine = replace(job, settings=replace(job.settings, device=f"cuda:{int(worker.name) % gpus}"))
            self.cases = CaseWorker(mine)

    return CasePlugin()


def _run_here(case: CohortCase) -> Outcome:
    """Run a case on the worker that this function finds itself on."""
    from distributed import get_worker

    plugin: Any = get_worker().plugins[_PLUGIN]
    try:
        outcome: Outcome = plugin.cases.run(case)
        return outcome
    except OutputError as error:
        # An OSError loses its text on the way through pickle when it has but one argument; say it plainly.
        raise OutputError(str(error)) from None


def _gpus() -> int:
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
