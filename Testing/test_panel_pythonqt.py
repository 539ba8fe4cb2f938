"""The panel and its tests keep to what PythonQt, of a desktop Slicer, and PySide6, of the bench, understand alike."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    [
        *(ROOT / "Agg2ExpLib" / "panel").rglob("*.py"),
        ROOT / "Agg2Exp" / "Agg2Exp.py",
        *(ROOT / "Testing").glob("test_panel*.py"),
        ROOT / "Testing" / "test_slicer_module.py",
        ROOT / "Testing" / "test_sample_data.py",
        ROOT / "Testing" / "bench" / "fixtures.py",
    ]
)
#: Properties of the widgets in use: PythonQt has the value itself under these names, PySide6 a method.
PROPERTIES = {
    "accessibleName", "checkable", "checked", "collapsed", "columnCount", "count", "currentData", "currentIndex",
    "currentText", "decimals", "enabled", "focusPolicy", "height", "maximum", "minimum", "minimumSizeHint", "objectName",
    "palette", "pixmap", "placeholderText", "rowCount", "singleStep", "sizeHint", "suffix", "text", "toolTip", "value",
    "visible", "width", "windowTitle",
}  # fmt: skip
#: What is no QObject has methods in both: items of lists and tables, the clipboard's text, pictures.
PLAIN = {"item", "clipboard", "pixmap", "property", "read"}


def name_of(node):
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def calls_of_properties(tree):
    """Yield the calls without arguments of what is a property of a widget."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and not (node.args or node.keywords)):
        if isinstance(call.func, ast.Attribute) and call.func.attr in PROPERTIES:
            asked = call.func.value
            # What another call returned may be a size, which has methods in both.
            of_a_size = call.func.attr in ("width", "height") and isinstance(asked, ast.Call)
            if name_of(asked) not in PLAIN and not of_a_size:
                yield call


def questions_of_class(tree):
    """Yield where Python is asked whether something is of a kind of Qt's: in PythonQt no class is a kind of another."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if name_of(call) in ("isinstance", "issubclass"):
            attributes = [one for one in ast.walk(call.args[-1]) if isinstance(one, ast.Attribute)]
            if any(name_of(one.value) in ("qt", "ctk") for one in attributes):
                yield call


def lines_of(found, text):
    return [f"{one.lineno}: {ast.get_source_segment(text, one)}" for one in found]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_properties_are_read_in_a_way_that_both_answer(file):
    text = file.read_text(encoding="utf-8")
    assert lines_of(calls_of_properties(ast.parse(text)), text) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kinds_of_widgets_are_asked_for_by_name(file):
    text = file.read_text(encoding="utf-8")
    assert lines_of(questions_of_class(ast.parse(text)), text) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("panel.explain.line.label.text()", 1),
        ("button(panel, 'run').toolTip()", 1),
        ("host.minimumSizeHint().width()", 1),
        ("read(host, 'minimumSizeHint').width()", 0),
        ("table.item(0, 1).text()", 0),
        ("settings.value('key')", 0),
        ("text.count('x')", 0),
        ("box.isChecked()", 0),
    ],
)
def test_a_property_that_is_called_is_found(text, count):
    assert len(list(calls_of_properties(ast.parse(text)))) == count


def test_a_question_of_class_is_found():
    assert len(list(questions_of_class(ast.parse("isinstance(one, (qt.QComboBox, qt.QLineEdit))")))) == 1
    assert list(questions_of_class(ast.parse("isinstance(path, tuple)"))) == []
