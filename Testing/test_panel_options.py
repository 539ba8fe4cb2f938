"""Controls that are made of descriptions of options: every kind, read back, kept with the scene, handed to the child."""

import pytest

from Agg2ExpLib.panel.words.batch import Request
from Agg2ExpLib.panel.words.choices import Choices
from Agg2ExpLib.panel.words.options import Option, given, options_of
from Testing.bench.fixtures import add_ct, read, turn

EVERY_KIND = (
    Option("flip", "bool", False, "Flip", "Turns it over."),
    Option("count", "int", 3, "Count", low=1, high=9),
    Option("width", "float", 1.5, "Width", low=0, high=4, unit="mm"),
    Option("path", "choice", "a", "Path", choices=(("a", "the first"), ("b", "the second"))),
    Option("layer", "text", "", "Layer"),
    Option("draws", "int", 0, "Draws", automatic="as needed"),
)
VALUES = {"flip": True, "count": 7, "width": 2.25, "path": "b", "layer": "enc.1", "draws": 40}


@pytest.fixture
def controls(bench_scene):
    import qt

    from Agg2ExpLib.panel.sections.option_controls import OptionControls

    frame = qt.QWidget()
    qt.QFormLayout(frame)
    return OptionControls(frame)


def test_every_kind_of_option_is_shown_and_read_back(controls):
    controls.show(EVERY_KIND, VALUES)
    assert controls.values() == VALUES
    assert read(controls.widgets["width"], "suffix") == " mm"
    assert read(controls.widgets["flip"], "toolTip") == "Turns it over."
    assert controls.widgets["path"].itemText(1) == "the second"


def test_what_is_the_default_or_not_allowed_is_left_to_the_method(controls):
    controls.show(EVERY_KIND, {"count": 99, "path": "z", "width": "wide", "flip": "yes"})
    assert controls.values() == {}
    assert read(controls.widgets["count"], "value") == 3
    assert read(controls.widgets["draws"], "text") == "as needed"


def test_a_change_is_told_once_and_showing_is_no_change(controls):
    heard = []
    controls.changed.connect(lambda: heard.append(controls.values()))
    controls.show(EVERY_KIND, VALUES)
    assert heard == []
    controls.widgets["count"].setValue(5)
    assert heard == [VALUES | {"count": 5}]


def test_other_options_take_the_place_of_the_first(controls):
    controls.show(EVERY_KIND, VALUES)
    controls.show(EVERY_KIND[:1], {})
    assert list(controls.widgets) == ["flip"]
    assert controls.frame.layout().itemAt(1) is not None
    assert controls.frame.layout().itemAt(2) is None
    controls.show((), {})
    assert controls.values() == {}


def test_every_option_of_the_table_is_one_of_the_command_line():
    from Agg2ExpLib.cli import parsed
    from Agg2ExpLib.panel.compute.task_maker import arguments_of

    for method in ("gradient", "smoothgrad", "integrated-gradients", "kernelshap", "occlusion", "gradcam"):
        names = {one.name: one.choices[-1][0] if one.choices else one.default or 3 for one in options_of(method)}
        words = arguments_of({"method": method, **names})
        assert parsed(["explain", "ct.nii", "--out=x", *words]).method == method


def test_kernelshaps_options_are_shown_kept_with_the_scene_and_handed_over(panel, widget, child):
    node = widget._parameterNode
    add_ct()
    node.method = type(node.method)["kernelshap"]
    shown = panel.explain.options.widgets
    assert {"samples", "supervoxels", "estimator", "scope"} <= set(shown)
    shown["samples"].setValue(64)
    shown["scope"].setCurrentIndex(1)
    assert dict(panel.desk.choices().more) == {"samples": 64, "scope": "scan"}
    node.method = type(node.method)["smoothgrad"]
    assert list(panel.explain.options.widgets) == ["sigma"]
    assert panel.desk.choices().more == ()
    node.method = type(node.method)["kernelshap"]
    assert read(panel.explain.options.widgets["samples"], "value") == 64
    panel.explain.apply.click()
    assert turn(lambda: not panel.task.running)
    assert {"--method=kernelshap", "--samples=64", "--scope=scan"} <= set(child.task()["arguments"])


def test_options_from_elsewhere_do_no_harm(panel, widget):
    node = widget._parameterNode
    for text in ("{", "[1]", '{"smoothgrad": 3}', '{"smoothgrad": {"sigma": "much", "evil": 1}}'):
        node.methodOptions = text
        assert panel.desk.choices().more == ()


def test_a_batch_remembers_the_options_of_its_method():
    choices = Choices(method="kernelshap", more=(("samples", 64), ("scope", "scan")))
    assert Request.from_text(Request("a", "b", choices).to_text()).choices == choices
    assert choices.options()["samples"] == 64
    assert choices.settings().scope == "scan"
    assert "unknown" in Choices(method="kernelshap", more=(("estimator", "magic"),)).problem().lower()


def test_only_what_differs_from_the_default_is_given():
    assert given(EVERY_KIND, VALUES | {"count": 3, "unheard": 1}) == {k: v for k, v in VALUES.items() if k != "count"}
