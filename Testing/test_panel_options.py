"""Controls that are made of descriptions of options: every kind, read back, kept with the scene, handed to the child."""

import pytest

from Agg2ExpLib.methods import METHODS, Option
from Agg2ExpLib.panel.words.batch import Request
from Agg2ExpLib.panel.words.choices import Choices
from Agg2ExpLib.panel.words.options import given, options_of
from Testing.bench.fixtures import add_ct, read, turn

EVERY_KIND = (
    Option("flip", False, bool, "flip", "Turns it over."),
    Option("count", 3, int, "count", "How many.", low=1, high=9),
    Option("width", 1.5, float, "width", "How wide.", unit="mm", low=0, high=4),
    Option("path", "a", str, "path", "Which way.", choices={"a": "the first", "b": "the second"}),
    Option("layer", None, str, "layer", "Which layer."),
    Option("draws", None, int, "draws", "How often.", low=1),
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
    assert controls.widgets["path"].itemText(1) == "b"


def test_what_is_the_default_or_not_allowed_is_left_to_the_method(controls):
    controls.show(EVERY_KIND, {"count": 99, "path": "z", "width": "wide"})
    assert controls.values() == {}
    assert read(controls.widgets["count"], "value") == 3
    assert read(controls.widgets["draws"], "text") == "automatic"


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


def test_every_option_of_a_method_has_a_control_and_is_one_of_the_command_line(controls):
    from Agg2ExpLib.cli import parsed
    from Agg2ExpLib.panel.compute.task_maker import arguments_of

    for method in METHODS:
        controls.show(options_of(method), {})
        assert controls.values() == {}
        every = {one.name for one in METHODS[method].options()}
        assert every - set(controls.widgets) <= {"samples", "seed"}
        words = arguments_of(Choices(method=method, more=tuple((name, 3) for name in controls.widgets)).options())
        assert (
            parsed(["explain", "ct.nii", "--out=x", *(one for one in words if one.count("=3") == 0)]).method == method
        )


def test_kernelshaps_options_are_shown_kept_with_the_scene_and_handed_over(panel, widget, child):
    node = widget._parameterNode
    add_ct()
    node.method = type(node.method)["kernelshap"]
    shown = panel.explain.options.widgets
    assert {"samples", "supervoxels", "estimator", "scope"} <= set(shown)
    assert not panel.explain.samples.isEnabled()
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
    assert choices.request().method.scope == "scan"
    assert "unknown" in Choices(method="kernelshap", more=(("estimator", "magic"),)).problem().lower()


def test_only_what_differs_from_the_default_is_given():
    assert given(EVERY_KIND, VALUES | {"count": 3, "unheard": 1}) == {k: v for k, v in VALUES.items() if k != "count"}
