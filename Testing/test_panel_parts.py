"""The plain parts of the panel: words of the child, commands, choices, states, lines of the table."""

import itertools
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from Agg2ExpLib.case import REDUCTIONS
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES, build_table
from Agg2ExpLib.methods import METHODS
from Agg2ExpLib.panel.compute import interpreter
from Agg2ExpLib.panel.compute.child_output import LONGEST_LINE, LineReader, parse_line
from Agg2ExpLib.panel.user_settings import UserSettings
from Agg2ExpLib.panel.words.buttons import Facts, panel_state
from Agg2ExpLib.panel.words.choices import FILL_TEXTS, METHOD_TEXTS, REDUCTION_TEXTS, Choices
from Agg2ExpLib.panel.words.importance_rows import Row, rows_of, sort_rows, with_live
from Agg2ExpLib.progress import Event, JsonLinesSink


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))), st.integers(1, 7))
def test_lines_are_the_same_however_the_bytes_are_cut(lines, size):
    data = "".join(f"{line}\n" for line in lines).encode()
    reader = LineReader()
    found = [line for at in range(0, len(data), size) for line in reader.feed(data[at : at + size])]
    assert found == lines
    assert reader.rest() == ""


def test_a_line_without_end_does_not_fill_the_memory():
    reader = LineReader()
    found = list(reader.feed(b"x" * (LONGEST_LINE + 10)))
    assert [len(line) for line in found] == [LONGEST_LINE]
    assert reader.rest() == ""


def test_what_the_progress_sink_writes_is_read_again(capsys):
    event = Event("attributions", 3, 9, "lung lower lobe left", 4.5)
    JsonLinesSink()(event)
    assert parse_line(capsys.readouterr().out.strip()) == event


@pytest.mark.parametrize(
    "line",
    [
        "plain words",
        "{broken",
        "[1, 2]",
        '{"stage": 1, "done": "x", "total": null}',
        '{"stage": "a", "done": 1, "total": 2, "seconds_left": "soon"}',
        "{" * 5000,
    ],
)
def test_what_is_no_event_is_never_taken_for_one(line):
    assert not isinstance(parse_line(line), Event)


def test_the_interpreter_is_the_setting_else_pythonslicer_else_a_sentence(tmp_path, monkeypatch):
    assert interpreter.interpreter(sys.executable) == sys.executable
    monkeypatch.delenv("SLICER_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=interpreter.INTERPRETER_SETTING):
        interpreter.interpreter()
    with pytest.raises(InputError, match="no-such-python"):
        interpreter.interpreter("no-such-python")
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "PythonSlicer"
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    monkeypatch.setenv("SLICER_HOME", str(tmp_path))
    assert interpreter.interpreter() == str(launcher)


def test_the_texts_know_every_method_reduction_and_fill_of_the_library():
    from Agg2ExpLib.case.filling import FILLS

    assert set(METHOD_TEXTS) == set(METHODS)
    assert set(REDUCTION_TEXTS) == set(REDUCTIONS)
    assert set(FILL_TEXTS) == set(FILLS)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices(), ""),
        (Choices(structures=()), ""),
        (Choices(model=""), "Choose a model"),
        (Choices(method="magic"), "Unknown method"),
        (Choices(samples=0), "Samples of SmoothGrad is 0"),
        (Choices(overlap=1.5), "overlap"),
    ],
)
def test_choices_say_what_is_wrong_with_them(choices, words):
    assert (choices.problem() == "") == (words == "")
    assert words in choices.problem()


def test_samples_are_asked_for_only_where_a_method_has_them():
    assert Choices(method="gradient", samples=20).options().get("samples") is None
    assert Choices(method="smoothgrad", samples=7).options()["samples"] == 7


FACTS = [
    Facts(volume=volume, problem=problem, job=job, cancelling=cancelling, shown=shown, structure=structure,
          structures=structures, region=region, computed_here=here, figures=figures)
    for volume, problem, job, cancelling, shown, structure, structures, region, here, figures in itertools.product(
        ("", "ct"), ("", "Choose."), ("", "preparing", "explain", "whatif"), (False, True), (False, True),
        ("", "heart"), (0, 2), ("", "nodule"), (True, False), (True, False))
]  # fmt: skip


def test_in_every_state_a_button_that_cannot_be_pressed_says_why():
    for facts in FACTS:
        for name, look in panel_state(facts).looks.items():
            assert look.text, (name, facts)
            assert look.enabled == (look.reason == "")
            assert look.tooltip.strip() or look.enabled, (name, facts)


def test_while_something_runs_apply_is_cancel_and_can_be_pressed_until_it_was():
    for facts in FACTS:
        look = panel_state(facts)["apply"]
        if facts.cancelling:
            assert not look.enabled
        elif facts.job:
            assert (look.text, look.enabled) == ("Cancel", True)
        else:
            assert (look.text, look.enabled) == ("Apply", bool(facts.volume) and not facts.problem)


def test_nothing_that_needs_an_explanation_can_be_pressed_before_there_is_one():
    state = panel_state(Facts(volume="ct"))
    names = ("whatif", "export", "strongest", "bars", "graph3d", "heat map", "graph", "overlay", "previous", "next")
    assert [state[name].enabled for name in names] == [False] * len(names)


def table():
    row = {measure: np.array([0.6, 0.3, 0.0]) for measure in MEASURES}
    row["enrichment"], row["voxels"] = np.array([0.7, 9.0, np.nan]), np.array([100.0, 10.0, 0.0])
    return build_table({"heart": row}, ["background", "heart", "nodule"])


def test_the_lines_hold_the_tables_numbers_and_absent_regions_come_last():
    rows = rows_of(table(), "heart")
    assert [(row.region, row.share) for row in rows] == [("background", 0.6), ("heart", 0.3), ("nodule", 0.0)]
    assert rows[1].own
    for descending in (True, False):
        assert [row.region for row in sort_rows(rows, "size", descending)][-1] == "nodule"
    assert [row.region for row in sort_rows(rows, "size", True)] == ["heart", "background", "nodule"]


def test_every_line_says_what_it_means():
    heart = rows_of(table(), "heart")[1]
    assert "30 % of what the model relied on for heart lies in heart: 9.0 times what" in heart.sentence("heart")
    assert "no voxel" in rows_of(table(), "heart")[2].sentence("heart")


def test_painted_lines_take_the_place_of_computed_ones_and_new_ones_are_added():
    rows = rows_of(table(), "heart")
    live = [
        Row("nodule", "my nodule", (1, 2, 3), 0.2, 4.0, 0.1, 0.1, 7, live=True),
        Row("segment:a/b", "spot", (1, 2, 3), 0.1, 2.0, 0.1, 0.1, 3, live=True),
    ]
    merged = with_live(rows, live)
    assert [row.name for row in merged] == ["background", "heart", "my nodule", "spot"]


class Settings(dict):
    def value(self, key):
        return self.get(key)

    setValue = dict.__setitem__


def test_models_are_remembered_once_and_a_damaged_setting_is_no_disaster():
    store = UserSettings(Settings())
    for path in ("/a", "/b", "/a"):
        store.add_model(path)
    assert store.models() == ["/b", "/a"]
    assert UserSettings(Settings({"Agg2Exp/Models": "{["})).models() == []
    assert UserSettings(Settings({"Agg2Exp/Models": json.dumps([1, "/a"])})).models() == ["/a"]


def test_a_share_that_is_no_number_is_a_dash_not_nan():
    row = Row("a", "a", (0, 0, 0), math.nan, math.nan, math.nan, math.nan, 5)
    assert row.texts() == ("a", "–", "–", "– / –")
