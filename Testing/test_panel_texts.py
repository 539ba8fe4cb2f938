"""The words of the panel: every one can be translated, and the .ui is what Slicer expects of one."""

import ast
import functools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from Testing.bench.fixtures import read, turn

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "Agg2ExpLib" / "panel").rglob("*.py"), ROOT / "Agg2Exp" / "Agg2Exp.py"])
DESIGN = ROOT / "Agg2Exp" / "Resources" / "UI" / "Agg2Exp.ui"
#: Call -> which of its arguments people read.
SHOWN = {
    "setText": [0], "setToolTip": [0], "setPlaceholderText": [0], "setWindowTitle": [0], "setAccessibleName": [0],
    "setSpecialValueText": [0], "setSuffix": [0], "setTitle": [0], "addItem": [0], "addAction": [0], "addRow": [0],
    "QLabel": [0], "QPushButton": [0], "QRadioButton": [0], "QCheckBox": [0], "QListWidgetItem": [0], "QAction": [0],
    "getExistingDirectory": [1], "getOpenFileName": [1, 3], "getSaveFileName": [1, 3], "show_picture": [2],
    "say": [0], "say_cost": [0], "say_meaning": [0], "say_whatif": [0], "say_settings": [0], "Look": [0, 1, 2],
    "_of_structure": [1, 2], "_figure": [1, 2],
}  # fmt: skip


@functools.cache
def nodes(kind):
    """Return (file, node) for every node of a kind in the files."""
    return tuple(
        (file.name, node)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, kind)
    )


def name_of(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def words_in(node):
    """Yield the literals that an expression shows as they stand, those of translated texts left out."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and re.search(r"[^\W\d_]{2}", node.value):
            yield node.value
    elif isinstance(node, ast.Call):
        # Of "...".format(...) the text is shown; what else is called answers for itself.
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join"):
            yield from words_in(node.func.value)
    elif isinstance(node, (ast.IfExp, ast.BinOp, ast.BoolOp, ast.JoinedStr)):
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.IfExp) and child is node.test):
                yield from words_in(child)


def test_what_people_read_can_be_translated():
    found = []
    for file, call in nodes(ast.Call):
        shown = [call.args[index] for index in SHOWN.get(name_of(call), ()) if index < len(call.args)]
        found += [f"{file}:{call.lineno}: {text!r}" for one in shown for text in words_in(one)]
    assert found == []


def test_the_panels_own_calls_that_are_looked_for_are_still_there():
    ours = {name for name in SHOWN if not re.match("Q|set[A-Z]|add[A-Z]|get[A-Z]", name)}
    assert ours - {name_of(call) for _, call in nodes(ast.Call)} == set()


def test_the_test_finds_what_it_looks_for():
    def found(text):
        (call,) = ast.parse(text).body
        return list(words_in(call.value.args[0]))

    assert found('widget.setText("Apply")') == ["Apply"]
    assert found('widget.setText(f"{count} of them")') == [" of them"]
    assert found('widget.setText("one" if count == 1 else _("many"))') == ["one"]
    assert found('widget.setText(_("{count} of them").format(count="many"))') == []


def test_translated_texts_are_plain_literals_that_can_be_collected():
    calls = [(file, call) for file, call in nodes(ast.Call) if name_of(call) == "_"]
    assert len(calls) > 100
    assert [f"{file}:{call.lineno}" for file, call in calls if not isinstance(call.args[0], ast.Constant)] == []


def test_no_variable_stands_in_the_way_of_the_translation():
    hiding = []
    for file, scope in nodes((ast.FunctionDef, ast.Lambda)):
        given = scope.args
        names = {one.arg for one in (*given.args, *given.kwonlyargs, given.vararg, given.kwarg) if one is not None}
        names |= {one.id for one in ast.walk(scope) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        if "_" in names and any(isinstance(one, ast.Call) and name_of(one) == "_" for one in ast.walk(scope)):
            hiding.append(f"{file}:{scope.lineno}")
    assert hiding == []


def test_the_design_is_of_slicers_widgets_and_follows_the_scene():
    root = ElementTree.parse(DESIGN).getroot()
    widgets = {one.get("name"): one.get("class") for one in root.iter("widget")}
    assert widgets["Agg2Exp"] == "qMRMLWidget"
    headers = {one.findtext("class"): one.findtext("header") for one in root.iter("customwidget")}
    assert headers == {name: f"{name}.h" for name in headers}
    assert {kind for kind in widgets.values() if not kind.startswith("Q")} == set(headers)
    told = {one.findtext("receiver") for one in root.iter("connection") if "mrmlScene" in one.findtext("signal")}
    assert told == {name for name, kind in widgets.items() if kind == "qMRMLNodeComboBox"}


def test_labels_and_names_of_the_design_lead_to_widgets():
    root = ElementTree.parse(DESIGN).getroot()
    names = [one.get("name") for kind in ("widget", "layout", "spacer") for one in root.iter(kind)]
    assert len(names) == len(set(names))
    buddies = [one.findtext("cstring") for one in root.iter("property") if one.get("name") == "buddy"]
    assert len(buddies) > 12
    assert set(buddies) <= set(names)


def test_every_widget_bound_in_the_design_is_a_parameter(module):
    root = ElementTree.parse(DESIGN).getroot()
    texts = [one.find("string") for one in root.iter("property") if one.get("name") == "SlicerParameterName"]
    assert {one.get("notr") for one in texts} == {"true"}, "a translated name would be no parameter's"
    bound = [one.text for one in texts]
    assert len(bound) == len(set(bound)) == 18
    assert set(bound) <= set(module.Agg2ExpParameterNode.allParameters)


def test_the_tab_key_goes_through_the_panel_from_top_to_bottom(widget):
    for frame in (
        widget.ui.advancedCollapsibleButton,
        widget.ui.anomalyCollapsibleButton,
        widget.ui.cohortCollapsibleButton,
        widget.ui.logCollapsibleButton,
    ):
        frame.setProperty("collapsed", False)
    # The sections get their places when the event loop comes to it.
    assert turn(lambda: not jumps(widget), 20), jumps(widget)


def jumps(widget):
    """Return where the tab key goes up, or left within a line."""
    import qt

    seen, one = [], widget.ui.inputsCollapsibleButton
    while one not in seen:
        seen.append(one)
        one = one.nextInFocusChain()
    named = set(vars(widget.ui).values())
    asked = [one for one in seen if one in named and read(one, "focusPolicy") & qt.Qt.TabFocus and one.isVisible()]
    places = [one.mapTo(widget.parent, qt.QPoint(0, read(one, "height") // 2)) for one in asked]
    assert len(places) > 35
    return [
        (read(before, "objectName"), read(after, "objectName"))
        for before, after, here, there in zip(asked, asked[1:], places, places[1:], strict=False)
        if not before.isAncestorOf(after)
        and (there.y() < here.y() - 8 or (abs(there.y() - here.y()) <= 8 and there.x() < here.x()))
    ]


def test_every_control_tells_a_screen_reader_what_it_is():
    kinds = (
        r"Q(Tool|Push|Radio)Button|QCheckBox|Q\w*(ComboBox|SpinBox|TextEdit)|Q\w+Widget|QProgressBar|ctk.*|qMRMLNode.*"
    )
    named_by_panel = {"batchRunButton", "batchCancelButton", "openCaseButton", "retryFailedButton"}
    named_by_panel |= {"cohortReportButton", "cohortProfileButton"}
    nameless = []
    for widget in ElementTree.parse(DESIGN).getroot().iter("widget"):
        words = {one.get("name"): (one[0].text or "") for one in widget.findall("property") if len(one)}
        if re.fullmatch(kinds, widget.get("class")) and not (words.get("accessibleName") or words.get("text")):
            nameless.append(widget.get("name"))
    assert set(nameless) - named_by_panel == set(), "neither accessibleName nor words of their own"


def test_a_script_that_writes_a_parameter_is_seen_in_the_panel(panel, widget):
    node = widget._parameterNode
    node.samples = 7
    node.method = type(node.method)["occlusion"]
    node.overlay = "signed"
    node.allStructures, node.structures = False, ["heart"]
    assert read(panel.explain.samples, "value") == 7
    assert not panel.explain.samples.isEnabled()
    assert read(panel.explain.method, "currentText") == "Occlusion"
    assert panel.results.modes["signed"].isChecked()
    assert panel.explain.structures.ticked() == ("heart",)
    assert panel.parameters.choices().samples == 7


def test_what_is_chosen_in_the_panel_is_in_the_parameter_node(panel, widget):
    panel.explain.samples.setValue(9)
    panel.results.masked.setChecked(True)
    panel.explain.structures.none.click()
    node = widget._parameterNode
    assert (node.samples, node.onlyInsideSegments, node.allStructures, list(node.structures)) == (9, True, False, [])
    with pytest.raises(ValueError):
        node.samples = 0
