"""Sentences on any screen, and names in any script in figures."""

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from figure_cases import write_explanation

from Agg2ExpLib.cli import main
from Agg2ExpLib.cli.common import close_bars, progress_of
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures import fonts, heat_map, write_case_figures, write_figure
from Agg2ExpLib.progress import JsonLinesSink, Progress, TerminalSink
from Agg2ExpLib.regions import Region
from Agg2ExpLib.storage.names import path_within
from Agg2ExpLib.volume import Grid

ROOT = Path(__file__).resolve().parents[1]
NAME = "płyn opłucnowy ±1 心 Ł\udcff"


class Broken(io.StringIO):
    """A screen that fails at the first letter."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_explanation(tmp_path_factory.mktemp("screens") / "case")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "plyn oplucnowy +-1 ? L?"),
        ("cp1252", "plyn oplucnowy ±1 ? L?"),
        ("cp1251", "plyn oplucnowy ±1 ? L?"),
        ("iso8859-2", "płyn opłucnowy +-1 ? Ł?"),
        ("utf-8", "płyn opłucnowy ±1 心 Ł?"),
    ],
)
def test_letters_that_a_screen_lacks_are_written_in_others(monkeypatch, encoding, shown):
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    assert main(["show", NAME]) == 2
    progress = Progress(TerminalSink())
    progress.stage(NAME, 2, NAME)
    progress.message(NAME)
    progress.advance(2, NAME)
    error.flush()
    text = error.buffer.getvalue().decode(encoding)
    assert f"agg2exp: {shown} is not a folder" in text
    assert text.count(shown) >= 3


def test_a_program_without_a_screen_goes_on(monkeypatch, folder):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["show", str(folder)]) == 0


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (OSError(22, "Invalid argument"), 0, ""),
        (OSError(28, "No space left on device"), 2, "standard output cannot be written (No space left on device)"),
        (OSError(5, "Input/output error"), 2, "standard output cannot be written (Input/output error)"),
    ],
)
def test_a_closed_screen_ends_quietly_and_a_full_one_with_a_sentence(monkeypatch, capsys, folder, error, code, words):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    assert main(["show", str(folder)]) == code
    told = capsys.readouterr().err
    assert words in told
    assert len(told.strip().splitlines()) == bool(words)


def test_work_that_is_done_is_no_failure_on_a_full_screen(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    assert main(["phantom", "--out", str(tmp_path / "f"), "--spacing", "10", "--progress", "none"]) == 0
    assert f"the work is done, and its results are in {tmp_path / 'f'}" in capsys.readouterr().err


@pytest.mark.parametrize("sink", [JsonLinesSink, TerminalSink])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_work_goes_on_when_its_progress_cannot_be_shown(sink, error):
    progress = Progress(sink(Broken(error)))
    progress.stage("work", 2)
    progress.message("a note")
    progress.advance(2)


def test_a_bar_that_cannot_be_taken_away_is_left(monkeypatch, capsys):
    class Filling(io.StringIO):
        full = False

        def write(self, text):
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Filling()
    monkeypatch.setattr(sys, "stderr", stream)
    progress_of(type("Options", (), {"progress": "bar"})).stage("work", 3)
    stream.full = True
    close_bars()


@pytest.mark.skipif(os.name == "nt", reason="there is no /dev/full")
def test_real_pipes_and_full_disks(folder):
    command = [sys.executable, str(ROOT / "Agg2ExpLib" / "cli" / "__main__.py"), "show", str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1)
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_file_is_found_where_the_systems_encoding_lacks_its_letters(monkeypatch, tmp_path):
    def ascii_only(name):
        return str(name).encode("ascii", "surrogateescape")

    monkeypatch.setattr(os, "fsencode", ascii_only)
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode("ascii", "surrogateescape"))
    assert ascii_only(path_within(tmp_path, "płyn.nii.gz")).decode().endswith("/płyn.nii.gz")


def test_a_region_whose_name_is_no_text_is_refused():
    with pytest.raises(InputError, match="no text in the encoding of this terminal"):
        Region.from_mask("p\udcc5\udc82yn", np.ones((4, 4, 4)), Grid((4, 4, 4), np.eye(4)))


def test_letters_of_any_script_are_drawn_by_a_font_that_has_them_or_it_is_said_once(monkeypatch, tmp_path):
    # STIX has the Fraktur letter that DejaVu Sans has not, and stands for another font of the machine.
    names = ("płyn", "Сердце", "القلب", "heart 𝔄")
    monkeypatch.setattr(fonts, "_OTHERS", ("No such font", "STIXGeneral"))
    fonts.families.cache_clear()
    try:
        assert fonts.families() == ["DejaVu Sans", "STIXGeneral"]
        assert fonts.undrawable(names) == ""
        sentence = fonts.undrawable([*names, "\ue123 heart \ue124"])
        assert sentence.count("\ue123\ue124") == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = heat_map(np.full((4, 4), 0.25), names, ["\ue123", *names[1:]], "mass", title="\ue123")
            write_figure(figure, tmp_path, "names", formats=("png",))
    finally:
        fonts.families.cache_clear()


def test_figures_of_a_case_say_which_letters_cannot_be_drawn(monkeypatch, folder, tmp_path):
    case, told = Explanation.load(folder), []
    monkeypatch.setattr(fonts, "_letters_of", lambda family: frozenset(map(ord, "-.,")))
    monkeypatch.setitem(case.document["image"], "name", "心脏.nii.gz")
    write_case_figures(case, tmp_path, classes=[], measures=["mass"], formats=("png",), progress=Progress(told.append))
    messages = [event.detail for event in told if event.kind == "message"]
    assert len(messages) == 1
    assert "心脏 (CJK)" in messages[0]
