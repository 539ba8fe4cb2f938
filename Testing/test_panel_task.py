"""The child process: heard, cancelled with everything it started, cleaned up after, and never in the way of the window."""

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from Agg2ExpLib.panel.compute import process_tree
from Agg2ExpLib.panel.compute.background import Background, load_libraries
from Agg2ExpLib.panel.compute.task import Task
from Testing.bench.fixtures import turn, window_answers_within

FLOOD = """
import json, sys
event = {{"stage": "attributions", "total": {count}, "detail": "heart", "seconds_left": 1.0, "kind": "progress"}}
lines = "".join(json.dumps(event | {{"done": i}}) + chr(10) for i in range({count}))
words = "".join("a line for the log " + str(i) + chr(10) for i in range({count}))
sys.stderr.write(words)
sys.stdout.write(lines)
"""
#: A launcher, as PythonSlicer: what it starts has its standard input.
LAUNCHER = """
import subprocess, sys
inner = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
open(sys.argv[1], "w").write(str(inner.pid))
sys.exit(inner.wait())
"""
#: The real work: it does not hear its parent, or it does.
DEAF = "import time; print('up', flush=True); time.sleep(600)"
HEARS = """
import sys, time
from Agg2ExpLib.cli.parent import obey_parent
try:
    obey_parent()
    print("up", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit({code})
"""


def run(program, *arguments, **options):
    job = Task("explain", "the work", [sys.executable, "-c", program, *map(str, arguments)], **options)
    job.lines = []
    job.said.connect(job.lines.extend)
    job.start()
    return job


def ended(pid):
    return process_tree.tree(pid) == []


def pid_in(path):
    return int(path.read_text() or 0) if path.is_file() else 0


def test_a_job_tells_progress_lines_and_its_answer():
    job = run(
        'import json; print(json.dumps({"stage": "a", "done": 1, "total": 2})); print("words"); print("{\\"x\\": 1}")'
    )
    events = []
    job.progressed.connect(events.append)
    assert turn(lambda: job.outcome)
    assert [(event.stage, event.done) for event in events] == [("a", 1)]
    assert job.lines == ["words"]
    assert (job.outcome.status, job.outcome.answer) == ("done", {"x": 1})


def test_a_mistake_of_the_user_is_told_in_the_commands_own_sentence():
    job = run('import sys; print("agg2exp: ct.nii has no voxels; load it again", file=sys.stderr); sys.exit(2)')
    assert turn(lambda: job.outcome)
    assert (job.outcome.status, job.outcome.sentence) == ("refused", "ct.nii has no voxels; load it again")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ModuleNotFoundError: No module named 'monai'", "lacks a Python package"),
        ("torch.OutOfMemoryError: CUDA out of memory", "GPU's memory"),
        ("OSError: No space left on device", "disk space"),
        ("ValueError: odd", "exit code 1"),
    ],
)
def test_a_crash_is_told_with_its_likely_cause_and_its_last_words(words, told):
    job = run(f"import sys; print({words!r}, file=sys.stderr); sys.exit(1)")
    assert turn(lambda: job.outcome)
    assert job.outcome.status == "failed"
    assert told in job.outcome.sentence
    assert job.outcome.last_lines[-1] == words


def test_a_kill_from_outside_is_told_as_such():
    job = run("import time; print('up', flush=True); time.sleep(600)")
    assert turn(lambda: job.lines == ["up"])
    os.kill(int(job._process.processId()), 9)
    assert turn(lambda: job.outcome)
    assert job.outcome.status == "failed"
    assert "ended from outside or crashed" in job.outcome.sentence
    assert job.outcome.last_lines == ("up",)


def test_a_program_that_is_not_there_is_told_at_once():
    job = Task("explain", "the explanation", ["/no/such/python"])
    job.start()
    assert turn(lambda: job.outcome)
    assert "could not begin" in job.outcome.sentence


@pytest.mark.parametrize("how", ["cancel", "kill"])
@pytest.mark.parametrize("inner", [DEAF, HEARS.format(code=130)], ids=["deaf", "hears"])
def test_stopping_ends_the_launcher_and_what_it_started_and_removes_the_files(tmp_path, monkeypatch, how, inner):
    monkeypatch.setattr("Agg2ExpLib.panel.compute.task.PATIENCE_S", 0.2 if inner == DEAF else 30)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    job = run(LAUNCHER, tmp_path / "pid", inner, temporary=[scratch])
    assert turn(lambda: job.lines == ["up"])
    inner, outer = pid_in(tmp_path / "pid"), int(job._process.processId())
    assert not ended(inner)
    getattr(job, how)()
    assert turn(lambda: job.outcome)
    assert job.outcome.status == "cancelled"
    assert ended(outer)
    assert turn(lambda: ended(inner))
    assert not scratch.exists()


def test_what_was_complete_when_the_cancel_came_is_kept():
    job = run(HEARS.format(code=0))
    assert turn(lambda: job.lines == ["up"])
    job.cancel()
    assert turn(lambda: job.outcome)
    assert job.outcome.status == "done"


def test_when_the_launcher_is_killed_from_outside_its_child_does_not_stay(tmp_path):
    job = run(LAUNCHER, tmp_path / "pid", HEARS.format(code=130))
    assert turn(lambda: job.lines == ["up"])
    inner = pid_in(tmp_path / "pid")
    os.kill(int(job._process.processId()), 9)
    assert turn(lambda: job.outcome)
    assert turn(lambda: ended(inner))


def test_the_window_answers_within_a_tenth_of_a_second_while_a_child_floods_it():
    jobs = []

    def begin():
        jobs.append(run(FLOOD.format(count=40_000)))
        return lambda: jobs[-1].outcome

    assert window_answers_within(0.1, begin)
    assert jobs[-1].outcome.status == "done"
    assert len(jobs[-1].lines) == 40_000


def test_handing_over_a_scan_does_not_hold_up_the_window(tmp_path):
    import numpy as np

    from Agg2ExpLib.volume import Grid, Volume, write_volume

    scan = Volume(np.zeros((8, 9, 10), dtype=np.int16), Grid((8, 9, 10), np.eye(4)))
    done, turned = [], threading.Event()
    load_libraries()

    def hand_over():
        # Goes on only when the window's loop has turned meanwhile.
        return write_volume(scan, tmp_path / "scan.nii"), turned.wait(60)

    work = Background(hand_over)
    work.finished.connect(lambda result, error: done.append((result, error)))
    work.start()
    assert not turn(lambda: done, 0.05)
    turned.set()
    assert turn(lambda: done)
    assert done == [((tmp_path / "scan.nii", True), None)]


def test_a_task_whose_files_cannot_be_handed_over_never_starts_its_child(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    marker = tmp_path / "began"

    def fail():
        raise OSError("the disk is full")

    task = Task(
        "explain",
        "the explanation",
        [sys.executable, "-c", f"open({str(marker)!r}, 'w')"],
        prepare=fail,
        temporary=[scratch],
    )
    task.start()
    assert turn(lambda: task.outcome)
    assert "the disk is full" in task.outcome.sentence
    assert not marker.exists()
    assert not scratch.exists()


def test_cancelling_while_files_are_handed_over_never_starts_the_child(tmp_path):
    marker = tmp_path / "began"
    task = Task(
        "explain",
        "the explanation",
        [sys.executable, "-c", f"open({str(marker)!r}, 'w')"],
        prepare=lambda: time.sleep(0.05),
    )
    task.start()
    task.cancel()
    assert turn(lambda: task.outcome)
    assert task.outcome.status == "cancelled"
    assert not Path(marker).exists()
