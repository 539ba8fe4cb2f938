"""Cases spread over workers by Dask: on this machine, or on any cluster that has a Dask scheduler.

Without further options the workers are processes on this machine. An existing cluster is used by the address of its
scheduler (``--scheduler``); start its workers with one thread each, for one loaded network is used by one case at a time.
Cases, model and output folder must have the same paths everywhere. The usual ways to such a scheduler (a Python that makes a
cluster stays open, or the cluster ends with it)::

    # SSH: on each machine                                    then anywhere
    dask scheduler                                            agg2exp cohort ... --scheduler tcp://HOST:8786
    dask worker tcp://HOST:8786 --nthreads 1

    # SLURM, with the package dask-jobqueue
    from dask_jobqueue import SLURMCluster
    cluster = SLURMCluster(cores=1, processes=1, memory="16GB", walltime="08:00:00", job_extra_directives=["--gres=gpu:1"])
    cluster.scale(jobs=32); print(cluster.scheduler_address)

    # Kubernetes, with the package dask-kubernetes
    from dask_kubernetes.operator import KubeCluster
    cluster = KubeCluster(name="agg2exp", image="IMAGE-WITH-AGG2EXP", n_workers=8, worker_command="dask-worker --nthreads 1")
    print(cluster.scheduler_address)

What travels is a case's paths one way and a sentence the other: workers write their own parts.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.store import CohortFolder
from Agg2ExpLib.cohort.run.work import CaseWorker, Job, Outcome
from Agg2ExpLib.device import count_cores
from Agg2ExpLib.errors import Agg2ExpError, InputError, OutputError

_PLUGIN = "agg2exp-case-worker"
# How long a scheduler may take to answer.
_TIMEOUT = "30s"
# glibc, in a worker: freed memory stays with the process, and large blocks come from its heap. One thread for numpy's
# libraries, as Dask has it; torch is told its own number.
_WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 1024**3),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(64 * 1024**2),
    "MALLOC_ARENA_MAX": "1",
}
# Seconds between two looks at the workers.
_LOOK_EVERY = 3.0


def spread(todo: Sequence[CohortCase], job: Job, workers: int, scheduler: str | None) -> Iterator[Outcome]:
    """Yield outcomes as they come; a case whose worker dies is handed to another.

    Parameters
    ----------
    todo : sequence of CohortCase
        Cases.
    job : Job
        Sent to every worker once.
    workers : int
        Processes on this machine.
    scheduler : str, optional
        Address of a Dask scheduler to use instead.

    Raises
    ------
    InputError
        The package distributed is not installed, or no scheduler answers.
    OutputError
        A worker cannot write the cohort folder.
    """
    try:
        import dask
        from distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        raise InputError(
            f"several workers need the package distributed ({error}); install it (pip install 'agg2exp[cohort]') "
            "or use --workers 1"
        ) from error
    # One case per worker at a time: when a worker dies, only the case that it was working on may be at fault.
    quiet = {
        "distributed.scheduler.worker-saturation": 1.0,
        # A worker on a busy machine is long in coming back; until then its nanny must not be given up.
        "distributed.deploy.lost-worker-timeout": "300s",
        "logging.distributed": "critical",
        # Dask's own default gives freed memory back at once, and networks take and free gigabytes a second: two workers then
        # spend their time in the kernel's page faults and are no faster than one (measured: 0.96 times; with these 2.1).
        "distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT,
    }
    with dask.config.set(quiet), _cluster(job, workers, scheduler) as address, _connect(Client, address) as client:
        gpus = 0 if scheduler else count_gpus()
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
    return replace(job, threads=max(1, count_cores() // workers))


@contextlib.contextmanager
def _cluster(job: Job, workers: int, scheduler: str | None) -> Iterator[Any]:
    """Yield what a client connects to."""
    if scheduler:
        yield scheduler
        return
    from distributed import LocalCluster

    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            # Dask serves its state over HTTP even without a dashboard, and warns where its usual port is taken.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            # How much memory a case takes is the network's affair; Dask would end a worker that is only busy.
            memory_limit=0,
            local_directory=str(job.folder / "work"),
            silence_logs=logging.CRITICAL,
        )
    except (RuntimeError, OSError, TimeoutError) as error:
        raise Agg2ExpError(
            f"the worker processes did not start ({error}); run the same command again, or use --workers 1"
        ) from error
    stop = threading.Event()
    watch = threading.Thread(target=_keep_up, args=(cluster, workers, stop), daemon=True)
    with cluster:
        watch.start()
        try:
            yield cluster
        finally:
            stop.set()
            watch.join()


def _keep_up(cluster: Any, workers: int, stop: threading.Event) -> None:
    """Replace workers that died while they were starting: their nannies give up on those, and nobody else looks."""
    dead: set[Any] = set()
    while not stop.wait(_LOOK_EVERY):
        registered = {state.name for state in list(cluster.scheduler.workers.values())}
        now_dead = {
            name
            for name, nanny in list(cluster.workers.items())
            if name not in registered and not (nanny.process is not None and nanny.process.is_alive())
        }
        # Twice in a row: between two processes of a nanny that is at work there is none for a moment.
        for name in now_dead & dead:
            cluster.loop.add_callback(cluster.workers.pop, name, None)
        dead = now_dead - dead
        cluster.scale(workers)


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
                compute = replace(job.request.compute, device=f"cuda:{int(worker.name) % gpus}")
                mine = replace(job, request=replace(job.request, compute=compute))
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


def count_gpus() -> int:
    """Return the number of CUDA devices; 0 without torch."""
    try:
        import torch
    except ImportError:
        return 0
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
