"""Running a cohort: one part per case, failures that do not stop it, and kills that lose and repeat nothing."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cohort_samples import fake_job, fake_model, made_up_cases

from Agg2ExpLib.cohort.run.cases import CohortCase
from Agg2ExpLib.cohort.run.runner import run_cohort
from Agg2ExpLib.cohort.run.spread import _cluster
from Agg2ExpLib.cohort.run.store import TABLES, CohortFolder
from Agg2ExpLib.errors import InputError, OutputError

HERE = Path(__file__).parent


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def test_every_case_becomes_rows_in_the_order_of_the_list(tmp_path):
    cases = made_up_cases(4)[::-1]
    summary = run_cohort(cases, fake_job(tmp_path / "out"), workers=1)
    assert (summary.finished, summary.failed) == (4, 0)
    long = pq.read_table(tmp_path / "out" / "importance.parquet")
    assert list(dict.fromkeys(long["case"].to_pylist())) == [case.id for case in cases]
    assert long.num_rows == 4 * 3 * 4
    assert long.column_names == [
        "case",
        "class",
        "roi",
        "mass",
        "positive",
        "negative",
        "mean_density",
        "enrichment",
        "voxels",
    ]


def test_a_case_that_fails_is_noted_with_its_reason_and_the_others_go_on(tmp_path):
    cases = [
        *made_up_cases(1),
        *made_up_cases(1, "bad"),
        *made_up_cases(1, "odd"),
        CohortCase("row", Path("x"), problem="no image"),
    ]
    summary = run_cohort(cases, fake_job(tmp_path / "out"), workers=1)
    assert (summary.finished, summary.failed) == (1, 3)
    assert dict(summary.reasons) == {
        "bad000": "/scans/bad000/ct.nii.gz is damaged; export it again",
        "odd000": "RuntimeError: a library broke",
        "row": "no image",
    }
    listed = pq.read_table(tmp_path / "out" / "cases.parquet").to_pydict()
    assert listed["status"] == ["done", "failed", "failed", "failed"]
    assert "--retry-failed" in summary.describe()


def test_failed_cases_are_left_alone_until_they_are_to_be_tried_again(tmp_path):
    tried = []

    def explain(image, model, out, settings, **options):
        tried.append(image.parent.name)
        raise InputError("not today")

    job = replace(fake_job(tmp_path / "out"), explain=explain)
    cases = made_up_cases(1)
    run_cohort(cases, job, workers=1)
    run_cohort(cases, job, workers=1)
    assert tried == ["case000"]
    summary = run_cohort(cases, fake_job(tmp_path / "out"), workers=1, retry_failed=True)
    assert (summary.finished, summary.failed) == (1, 0)


def test_a_finished_case_is_not_explained_again(tmp_path):
    job = fake_job(tmp_path / "out")
    run_cohort(made_up_cases(2), job, workers=1)
    before = tables(tmp_path / "out")

    again = []
    summary = run_cohort(
        made_up_cases(2), replace(job, explain=lambda image, *rest, **options: again.append(image)), workers=1
    )
    assert again == []
    assert (summary.finished, summary.before) == (2, 2)
    assert tables(tmp_path / "out") == before


def test_new_cases_are_added_to_the_table(tmp_path):
    run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), workers=1)
    summary = run_cohort(made_up_cases(1, "later"), fake_job(tmp_path / "out"), workers=1)
    assert (summary.finished, summary.before) == (3, 2)


def test_attribution_volumes_are_removed_unless_they_are_to_be_kept(tmp_path):
    run_cohort(made_up_cases(1), fake_job(tmp_path / "without"), workers=1)
    assert list((tmp_path / "without" / "work").iterdir()) == []
    assert not (tmp_path / "without" / "explanations").exists()
    run_cohort(made_up_cases(1), fake_job(tmp_path / "with", keep=True), workers=1)
    assert (tmp_path / "with" / "explanations" / "case000" / "big").is_file()


def test_the_same_folder_with_another_model_or_other_settings_is_refused(tmp_path):
    job = fake_job(tmp_path / "out")
    run_cohort(made_up_cases(1), job, workers=1)
    other = fake_model()
    other.sha256 = "cd" * 32
    with pytest.raises(InputError, match="the model is made up"):
        run_cohort(made_up_cases(2), replace(job, load=lambda: other), workers=1)
    with pytest.raises(InputError, match="reduction is mean instead of"):
        run_cohort(made_up_cases(2), replace(job, request=replace(job.request, reduction="mean")), workers=1)


def test_another_scan_under_a_finished_name_is_refused(tmp_path):
    run_cohort([CohortCase("a", Path("/scans/a/ct.nii.gz"))], fake_job(tmp_path / "out"), workers=1)
    with pytest.raises(InputError, match=r"a in .* was made from /scans/a/ct.nii.gz, not /scans/b/ct.nii.gz"):
        run_cohort([CohortCase("a", Path("/scans/b/ct.nii.gz"))], fake_job(tmp_path / "out"), workers=1)


def test_a_folder_of_something_else_is_not_written_to(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "ct.nii.gz").touch()
    with pytest.raises(OutputError, match="is not a cohort folder"):
        run_cohort(made_up_cases(1), fake_job(tmp_path / "scans"), workers=1)


def test_a_damaged_part_is_named(tmp_path):
    run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), workers=1)
    part = tmp_path / "out" / "parts" / "case001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"case001.parquet cannot be read .* delete it"):
        run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), workers=1)


def test_a_part_of_another_model_is_named(tmp_path):
    run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), workers=1)
    store = CohortFolder(tmp_path / "out")
    part = store.read_part("case001")
    identity = json.loads(json.dumps(part.provenance["identity"]))
    identity["model"]["sha256"] = "cd" * 32
    store.write_part("case001", part.table, {}, {"identity": identity})
    with pytest.raises(InputError, match=r"case001 .* does not belong to the others: the model is"):
        run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), workers=1)


def test_two_workers_give_the_very_tables_of_one_and_load_the_model_once_each(tmp_path, monkeypatch):
    cases = [*made_up_cases(6), *made_up_cases(1, "bad")]
    run_cohort(cases, fake_job(tmp_path / "one"), workers=1)
    loads = tmp_path / "loads"
    loads.mkdir()
    monkeypatch.setenv("AGG2EXP_TEST_LOADS", str(loads))
    summary = run_cohort(cases, fake_job(tmp_path / "two"), workers=2)
    assert (summary.finished, summary.failed) == (6, 1)
    assert tables(tmp_path / "two") == tables(tmp_path / "one")
    # Each worker, and the run itself, which has to know the model's name.
    assert 2 <= len(list(loads.iterdir())) <= 3


def test_no_scheduler_at_the_address_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.cohort.run.spread._TIMEOUT", "1s")
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"):
        run_cohort(made_up_cases(2), fake_job(tmp_path / "out"), scheduler="tcp://127.0.0.1:9")


RUN = """
import sys
sys.path.insert(0, {here!r})
from cohort_samples import fake_job, made_up_cases
from Agg2ExpLib.cohort.run.runner import run_cohort
if __name__ == "__main__":
    run_cohort(made_up_cases({count}), fake_job({out!r}), workers={workers})
"""


def start(out, count, workers, seconds):
    script = out.parent / f"run_{out.name}.py"
    script.write_text(RUN.format(here=str(HERE), count=count, out=str(out), workers=workers))
    environment = {**os.environ, "AGG2EXP_TEST_SECONDS": str(seconds), "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)


def children_of(pid):
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def finished(out):
    return len(list((out / "parts").glob("*.parquet")))


def kill_the_run(out, count, workers, seconds, kills, rng):
    """Kill the whole run when it has done a little more; return how often."""
    killed = 0
    while killed < kills:
        process = start(out, count, workers, seconds)
        goal = finished(out) + 1
        while process.poll() is None and finished(out) < goal:
            time.sleep(0.005)
        time.sleep(rng.random() * seconds * 1.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    return killed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")

    def of(count):
        if not (folder / str(count)).exists():
            run_cohort(made_up_cases(count), fake_job(folder / str(count)), workers=1)
        return tables(folder / str(count))

    return of


def test_a_run_killed_at_random_moments_ends_with_the_undisturbed_tables(tmp_path, undisturbed):
    out = tmp_path / "out"
    kill_the_run(out, 8, 1, 0.02, 3, random.Random(1))
    changed = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet")}
    assert len(changed) >= 3
    run_cohort(made_up_cases(8), fake_job(out), workers=1)
    assert tables(out) == undisturbed(8)
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in changed} == changed


@pytest.mark.slow
def test_twenty_kills_of_the_run_and_twenty_of_its_workers_leave_the_undisturbed_tables(tmp_path, undisturbed):
    rng = random.Random(7)
    out = tmp_path / "run"
    kill_the_run(out, 60, 1, 0.05, 20, rng)
    run_cohort(made_up_cases(60), fake_job(out), workers=1)
    assert tables(out) == undisturbed(60)

    out = tmp_path / "workers"
    process, killed = start(out, 110, 2, 0.25), 0
    while process.poll() is None:
        done = finished(out)
        workers = children_of(process.pid)
        if killed < 20 and done >= 2 + 4 * killed and workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            killed += 1
        time.sleep(0.01 + 0.2 * rng.random())
    assert (process.wait(), killed) == (0, 20)
    assert tables(out) == undisturbed(110)


def test_a_taken_dashboard_port_is_no_matter(tmp_path):
    pytest.importorskip("distributed")
    with socket.socket() as taken, warnings.catch_warnings():
        try:
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        except OSError:
            pass  # Another program has it.
        warnings.filterwarnings("error", message="Port")
        with _cluster(fake_job(tmp_path), 0, None) as cluster:
            assert cluster.scheduler.http_server.port != 8787
