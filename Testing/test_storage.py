"""Files, folders, locks and names: what is written is complete or not there, by one run at a time."""

import ast
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from Agg2ExpLib.errors import Cancelled, InputError, OutputError
from Agg2ExpLib.storage import (
    FolderLock,
    Kind,
    clear_folder,
    discard_folder,
    file_key,
    new_file,
    open_folder,
    partial_folder,
    safe_file_name,
    write_file,
    write_folder,
    write_table,
)

ROOT = Path(__file__).resolve().parents[1]
KIND = Kind("a test's folder", lambda folder: (folder / "ours").is_file())
HOLD = """
import pathlib, sys
from Agg2ExpLib.storage import FolderLock
with FolderLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def fails(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


# --- the wall ---


def writing_calls(tree):
    """Return the lines that rename, flush or lock by themselves, or make up temporary names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, plain = node.func.attr, len(node.args) == 1 and not node.keywords
            of_os = isinstance(node.func.value, ast.Name) and node.func.value.id == "os"
            renames = (name in ("rename", "replace") and (plain or of_os)) or (name == "move" and plain)
            if name in ("fsync", "renames", "link", "hardlink_to") or renames:
                found.append(f"{node.lineno} {name}")
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith((".partial", ".tmp"))
        ):
            found.append(f"{node.lineno} {node.value}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "")]
            found += [f"{node.lineno} {name}" for name in names if name in ("fcntl", "msvcrt")]
    return found


def test_only_storage_renames_flushes_and_locks():
    files = [path for room in ("Agg2ExpLib", "Agg2Exp", "Resources") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    guilty = {
        str(path.relative_to(ROOT)): found
        for path in files
        if path.parent.name != "storage" and (found := writing_calls(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert guilty == {}


@pytest.mark.parametrize(
    "line", ["os.replace(a, b)", "os.fsync(h)", "a.replace(b)", "a.rename(b)", "import fcntl", "x = 'a.partial'"]
)
def test_the_wall_sees_what_it_is_for(line):
    assert writing_calls(ast.parse(line))
    assert not writing_calls(ast.parse("text.replace('a', 'b'); replace(settings, seed=1); time.replace(hour=1)"))


# --- one file ---


def test_a_file_is_replaced_whole(tmp_path):
    write_file(tmp_path / "a.txt", b"old")
    write_file(tmp_path / "a.txt", "neu: \u00e4\n")
    assert (tmp_path / "a.txt").read_bytes() == "neu: ä\n".encode()
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_older_file(tmp_path, monkeypatch, call):
    write_file(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, call, fails(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"cannot write .*a\.txt: the disk is full .*choose another --run"):
        write_file(tmp_path / "a.txt", "new", option="--run")
    with pytest.raises(OutputError, match="the disk is full"), new_file(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (names_in(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "old")


def test_a_writer_that_wants_a_path_gets_one_of_the_same_name(tmp_path):
    with new_file(tmp_path / "scan.nii.gz") as part:
        assert (part.name, part.exists()) == ("scan.nii.gz", False)
        part.write_bytes(b"whole")
        (part.parent / "scan.raw").write_bytes(b"beside")
    assert names_in(tmp_path) == ["scan.nii.gz"]
    with pytest.raises(InputError), new_file(tmp_path / "scan.nii.gz") as part:
        part.write_bytes(b"half")
        raise InputError("stopped")
    assert (names_in(tmp_path), (tmp_path / "scan.nii.gz").read_bytes()) == (["scan.nii.gz"], b"whole")
    with pytest.raises(OutputError, match="No such file"), new_file(tmp_path / "scan.nii.gz"):
        pass


def test_a_table_has_the_same_line_ends_everywhere(tmp_path):
    write_table(tmp_path / "t.csv", ["a", "b"], [[1, "x, y"]])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n1,"x, y"\n'


# --- one folder ---


def test_a_folder_is_there_when_it_is_complete(tmp_path):
    with write_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (names_in(tmp_path / "deep"), names_in(tmp_path / "deep" / "out")) == (["out"], ["a"])
    with (
        pytest.raises(OutputError, match=r"out exists already; give another --out$"),
        write_folder(tmp_path / "deep" / "out"),
    ):
        pass


def test_a_failed_folder_leaves_the_older_one(tmp_path):
    with write_folder(tmp_path / "out", KIND) as folder:
        (folder / "ours").write_text("old")
    for error, expected in (
        (OSError(errno.ENOSPC, "No space left"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with pytest.raises(expected), write_folder(tmp_path / "out", KIND, overwrite=True) as folder:
            (folder / "ours").write_text("half")
            raise error
        assert (names_in(tmp_path), (tmp_path / "out" / "ours").read_text()) == (["out"], "old")
    with write_folder(tmp_path / "out", KIND, overwrite=True) as folder:
        (folder / "ours").write_text("new")
    assert (names_in(tmp_path), (tmp_path / "out" / "ours").read_text()) == (["out"], "new")


def test_a_publication_that_fails_half_way_puts_the_older_one_back(tmp_path, monkeypatch):
    with write_folder(tmp_path / "out", KIND) as folder:
        (folder / "ours").write_text("old")
    real = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: fails(errno.EIO)() if Path(a) == partial_folder(tmp_path / "out") else real(a, b)
    )
    with (
        pytest.raises(OutputError, match="cannot write"),
        write_folder(tmp_path / "out", KIND, overwrite=True) as folder,
    ):
        (folder / "ours").write_text("new")
    assert (names_in(tmp_path), (tmp_path / "out" / "ours").read_text()) == (["out"], "old")


@pytest.mark.parametrize("foreign", [False, True])
def test_only_a_folder_of_its_kind_is_replaced_and_only_when_asked(tmp_path, foreign):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ("scan.nii" if foreign else "ours")).write_text("precious")
    match = "is not a test's folder" if foreign else "or --overwrite to replace it"
    with pytest.raises(OutputError, match=match), write_folder(tmp_path / "out", KIND, overwrite=foreign):
        pass
    assert len(names_in(tmp_path / "out")) == 1


def test_a_stopped_run_is_gone_on_with_when_the_same_is_asked_for(tmp_path):
    def run(sign, stop):
        with write_folder(tmp_path / "out", fingerprint=sign, keep="*.json") as folder:
            found = names_in(folder)
            (folder / "one.json").write_text("done")
            (folder / ".0a1b2c3d.partial").write_text("half")
            if stop:
                raise Cancelled("stopped")
        return found

    for sign in ("a", "b"):
        with pytest.raises(Cancelled):
            run(sign, stop=True)
        assert names_in(tmp_path) == [".out.partial"]
    assert run("b", stop=False) == ["fingerprint", "one.json"]
    assert names_in(tmp_path) == ["out"]


def test_everything_is_flushed_before_the_folder_gets_its_name(tmp_path, monkeypatch):
    real, flushed = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), real(handle)))
    with write_folder(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("1")
        inode = (folder / "inner" / "a").stat().st_ino
    assert inode in flushed


def test_a_folder_that_grows_is_cleared_but_for_its_lock_and_leftovers_go(tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "ours").write_text("")
    (tmp_path / "out" / "deep" / ".0a1b2c3d.partial").write_text("half")
    with open_folder(tmp_path / "out", KIND):
        assert names_in(tmp_path / "out" / "deep") == []
        clear_folder(tmp_path / "out")
        assert names_in(tmp_path / "out") == [".lock"]
        with pytest.raises(OutputError, match="another run is at work on"), open_folder(tmp_path / "out", KIND):
            pass
    assert names_in(tmp_path / "out") == []


def test_a_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "scan.nii").write_text("precious")
    with pytest.raises(OutputError, match="is not a test's folder"), open_folder(tmp_path, KIND):
        pass
    assert names_in(tmp_path) == ["scan.nii"]


# --- one run at a place ---


@pytest.fixture
def another(tmp_path):
    """A process that holds the lock of ``out`` until its input ends."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], cwd=ROOT, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert child.stdout.readline() == "held\n"
    yield child
    child.communicate()


def test_another_process_is_refused_and_loses_nothing(tmp_path, another):
    (tmp_path / ".out.partial").mkdir()
    with (
        pytest.raises(OutputError, match=r"another run is at work on .*out; wait for it"),
        write_folder(tmp_path / "out"),
    ):
        pass
    discard_folder(tmp_path / "out")
    assert names_in(tmp_path) == [".out.lock", ".out.partial"]
    another.communicate()
    discard_folder(tmp_path / "out")
    assert names_in(tmp_path) == []


def test_a_killed_process_holds_nothing(tmp_path, another):
    another.kill()
    another.wait()
    assert names_in(tmp_path) == [".out.lock"]
    with write_folder(tmp_path / "out"):
        pass
    assert names_in(tmp_path) == ["out"]


def test_a_run_that_waits_goes_on_when_the_other_is_done(tmp_path, another, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.storage.locks._PAUSE_S", 0.0)
    waits = []

    def wait():
        if not waits:
            another.communicate()
        waits.append("once")

    with FolderLock(tmp_path / "out", wait=wait):
        assert waits


def test_a_run_that_waits_can_be_stopped(tmp_path):
    def stop():
        raise Cancelled("stopped")

    with FolderLock(tmp_path / "out"), pytest.raises(Cancelled), FolderLock(tmp_path / "out", wait=stop):
        pass


def test_a_lock_on_a_removed_file_keeps_nobody_out_and_is_not_taken(tmp_path, monkeypatch):
    """Another run removes the file between our opening and locking it; a third would make it anew."""
    from Agg2ExpLib.storage import locks

    first = FolderLock(tmp_path / "out")
    real, tries = locks._lock, []

    def late(stream):
        tries.append("once")
        if len(tries) == 1:
            first.file.unlink()
        real(stream)

    monkeypatch.setattr(locks, "_lock", late)
    with first:
        assert len(tries) == 2
        assert os.path.samestat(os.fstat(first._stream.fileno()), os.stat(first.file))


def test_many_threads_hold_a_lock_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.storage.locks._PAUSE_S", 0.0)
    inside, most, done = [], [], []

    def work():
        for _ in range(20):
            with FolderLock(tmp_path / "out", wait=lambda: None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
            done.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(done), names_in(tmp_path)) == (1, 160, [])


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.storage.locks._lock", fails(errno.ENOSYS))
    with pytest.raises(OutputError, match="gives no locks"), FolderLock(tmp_path / "out"):
        pass


# --- names ---


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("heart", "heart"),
        ("my finding / 1", "my_finding_1"),
        ("Lung.upper-left_", "Lung.upper-left"),
        ("???", "region"),
        ("a__b", "a_b"),
        ("x" * 128, "x" * 128),
        ("CON", "CON_"),
        ("aux.nii", "aux_.nii"),
        ("com1", "com1_"),
        ("com10", "com10"),
        ("lpt¹", "lpt¹_"),
        ("trailing. ", "trailing"),
        ("сердце", "сердце"),
        ("Лёгкое / 2", "Лёгкое_2"),
        ("心脏", "心脏"),
        ("cœur e\u0301", "cœur_é"),
        ("हृदय", "हृदय"),
    ],
)
def test_names_become_file_names(name, file):
    assert safe_file_name(name) == file


def test_names_stay_apart_and_short():
    names = ["x" * 300, "x" * 300 + "y", "心" * 200, "心" * 200 + "脏", "→", "←", "heart ♥", "heart ♦", "heart"]
    files = [safe_file_name(name) for name in names]
    assert len({file.casefold() for file in files}) == len(names)
    assert max(len(file.encode()) for file in files) <= 140


def test_names_that_some_file_system_takes_for_one_have_one_key():
    assert file_key("Heart") == file_key("heart") == file_key("heart ")
    assert file_key("é") == file_key("e\u0301") == file_key("É")
    assert file_key("心脏") != file_key("心房")


def test_distinct_names_are_distinct_without_case():
    names = ["a b", "a_b", "A_b", "a_B", "aux", "aux_", "s0011", "é", "e\u0301", "É", "x" * 90, "x" * 91]
    files = [safe_file_name(name, distinct=True) for name in names]
    assert len({file.casefold() for file in files}) == len(names)
    assert files[6] == "s0011"
