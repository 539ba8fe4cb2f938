"""The child process that the panel starts: it does what its file says, and ends when its parent asks for it or is gone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.task_file import CANCEL, FORMAT_VERSION, GO_ON, LISTEN, ScanOrigin, TaskFile
from Testing.bench import warm

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "Agg2ExpLib" / "cli" / "__main__.py"
#: Windows has neither: only what is left may be used to stop the main thread.
WITHOUT_POSIX = """
import os, runpy, signal, sys
for module, names in ((signal, ("pthread_kill", "SIGKILL")), (os, ("kill", "killpg"))):
    for name in names:
        delattr(module, name)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
#: Work that takes no time to start, and cleans up as the commands do.
WORK = f"""
import pathlib, sys, time
sys.path.insert(0, {str(ROOT)!r})
from Agg2ExpLib.cli.parent import obey_parent
folder = pathlib.Path(sys.argv[1])
try:
    obey_parent()
    folder.mkdir()
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    sys.exit(130)
finally:
    folder.rmdir()
"""
#: A parent as Slicer is one: it starts the child with a pipe, and lives until it is killed.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
child.stdin.write(b"listen\\ngo on\\n")
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(600)
"""


def until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch = pytest.importorskip("torch")
    nets = pytest.importorskip("monai.networks.nets")

    from Agg2ExpLib.models.bundle import write_model_folder
    from Agg2ExpLib.models.card import ModelCard

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=("background", "one", "two"), spacing=(3.0, 3.0, 3.0), window=(16, 16, 16),
                     architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    return write_model_folder(tmp_path_factory.mktemp("model") / "small", nets.UNet(**arguments).state_dict(), card)


@pytest.fixture
def task(model, tmp_path):
    """A task that explains for as long as anybody lets it, and the folder that it writes."""

    def make():
        from Agg2ExpLib.volume import Grid, Volume, write_volume

        voxels = np.random.default_rng(0).normal(0, 300, (24, 20, 16)).astype(np.float32)
        scan = write_volume(Volume(voxels, Grid(voxels.shape, np.diag([3.0, 3.0, 3.0, 1.0]))), tmp_path / "ct.nii.gz")
        out = tmp_path / "results" / "explained"
        words = (str(scan), f"--out={out}", f"--model={model}", "--samples=100000", "--device=cpu", "--progress=json")
        TaskFile("explain", words).write(tmp_path / "task.json")
        return out

    return make


def command(tmp_path):
    return [*warm.python(), str(PROGRAM), "task", str(tmp_path / "task.json")]


def windows_command(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    return [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path / "work.py"), str(tmp_path / "half")]


def at_work(out):
    """Whether half of the folder is written."""
    return any(path.is_file() for path in out.parent.glob(".*.partial/model_grid/prediction.nii.gz"))


def start(words):
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")


def start_parent(words):
    """Start a parent of a child, and return it and the child's number."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE)
    return parent, int(parent.stdout.readline())


def say(child, line):
    child.stdin.write(line + b"\n")
    child.stdin.flush()


def test_a_child_that_is_asked_to_stop_leaves_nothing_and_says_so(task, tmp_path):
    out = task()
    child = start(command(tmp_path))
    say(child, LISTEN)
    # It asks before work of more than ten minutes.
    say(child, GO_ON)
    assert until(lambda: at_work(out))
    say(child, CANCEL)
    words = child.communicate(timeout=300)[1].decode()
    assert child.returncode == 130, words
    assert "cancelled; nothing incomplete was left behind" in words
    assert list(out.parent.iterdir()) == []


def test_a_child_whose_parent_is_killed_ends_and_leaves_nothing_half_written(task, tmp_path):
    out = task()
    parent, pid = start_parent(command(tmp_path))
    assert until(lambda: at_work(out))
    parent.kill()
    assert until(lambda: not is_there(pid))
    assert list(out.parent.iterdir()) == []
    parent.communicate()


def test_both_need_nothing_that_windows_lacks(tmp_path):
    child = start(windows_command(tmp_path))
    say(child, LISTEN)
    assert until((tmp_path / "half").is_dir)
    say(child, CANCEL)
    child.communicate(timeout=300)
    assert child.returncode == 130
    assert not (tmp_path / "half").exists()
    parent, pid = start_parent(windows_command(tmp_path))
    assert until((tmp_path / "half").is_dir)
    parent.kill()
    assert until(lambda: not is_there(pid))
    assert not (tmp_path / "half").exists()
    parent.communicate()


def test_a_child_without_a_parent_that_talks_works_to_the_end(tmp_path):
    TaskFile("models").write(tmp_path / "task.json")
    done = subprocess.run(command(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "thorax-phantom" in done.stdout


def test_a_process_that_the_child_starts_does_not_take_the_parents_lines(tmp_path):
    program = f"""
import subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from Agg2ExpLib.cli.parent import obey_parent
obey_parent()
print(subprocess.run([sys.executable, "-c", "import sys; print(repr(sys.stdin.read()))"], capture_output=True, text=True).stdout)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    say(child, LISTEN)
    assert child.stdout.read().strip() == b"''"
    child.stdin.close()
    child.wait(timeout=30)


def test_a_child_that_hangs_in_native_code_ends_when_the_parent_is_gone(monkeypatch):
    from Agg2ExpLib.cli import parent

    read, write = os.pipe()
    os.write(write, LISTEN + b"\n")
    os.close(write)
    monkeypatch.setattr(parent, "LONGEST_CLEANUP_S", 0.0)
    done = []
    parent._hear(read, lambda: done.append("asked"), done.append)
    assert done == ["asked", 130]


def test_a_task_file_says_what_was_written(tmp_path):
    origin = ScanOrigin("chest CT", "/data/ct.nii.gz", "0" * 64, True, {"study": "1.2.3", "series": "1.2.3.4"})
    task = TaskFile("cohort report", ("/data/größe = 3", "--out=x"), origin)
    task.write(tmp_path / "task.json")
    assert TaskFile.read(tmp_path / "task.json") == task
    TaskFile("environment").write(tmp_path / "task.json")
    assert TaskFile.read(tmp_path / "task.json") == TaskFile("environment")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "something"}, "not a task file"),
        ({"format_version": FORMAT_VERSION + 1}, "let panel and computing Python have the same"),
        ({"arguments": [1]}, "damaged"),
        ({"arguments": None}, "damaged"),
        ({"scan": {"name": "ct"}}, "damaged"),
    ],
)
def test_a_task_file_of_another_kind_or_version_is_refused_by_name(tmp_path, change, told):
    path = tmp_path / "task.json"
    TaskFile("environment").write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=told):
        TaskFile.read(path)


def test_a_task_file_that_is_cut_short_is_refused_with_exit_code_2(tmp_path):
    (tmp_path / "task.json").write_text('{"format": ')
    done = subprocess.run(command(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"agg2exp: {tmp_path / 'task.json'} cannot be read")
