"""The reference distribution with this patient in it, the colours on the segments, and the chosen false-alarm rate."""

import pytest

from Agg2ExpLib.panel.words.verdicts import Reason, Verdict, Verdicts
from Agg2ExpLib.scene.nodes import PROVENANCE, provenance
from Testing.bench import warm
from Testing.bench.fixtures import add_ct, read, turn
from Testing.bench.small_explanation import write_small_explanation
from Testing.bench.small_reference import write_reference


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """A profile in which the heart always looked at the aorta."""
    folder = tmp_path_factory.mktemp("reference")
    case = write_small_explanation(folder / "case", model="thorax-phantom")
    return write_reference(case, folder / "other.npz", count=60, shifted={"heart": ("aorta", 0.5)})


@pytest.fixture
def compared(panel, profile, tmp_path):
    """A panel whose explanation is compared with the profile by the real command."""
    add_ct()
    panel.presenter.show_folder(write_small_explanation(tmp_path / "given", model="thorax-phantom"))
    panel.anomaly.frame.collapsed = False
    panel.reference.open(str(profile))
    assert turn(lambda: not panel.task.running)
    return panel


def colours(panel):
    from Agg2ExpLib.scene.segments import explained_segments

    saved = panel.shown.saved
    return {name: segment.GetColor() for name, segment in explained_segments(saved.segmentation_node, saved.key)}


def test_the_patient_is_drawn_among_the_reference_and_told_in_words(compared):
    widgets = compared.anomaly
    assert widgets.picture.isVisible()
    assert read(widgets.picture, "pixmap").width() / read(widgets.picture, "pixmap").devicePixelRatio() <= 340
    assert "heart: score" in read(widgets.words, "text")
    assert "60 reference cases; unusual above" in read(widgets.words, "text")
    heart = compared.reference.plots.found()[1]
    assert heart.distance() > 1
    assert len(heart.reference) == 60
    assert any(one.region == "aorta" and one.value < one.low for one in heart.reasons)
    compared.results.step(1)
    assert "aorta: score" in read(widgets.words, "text")


def test_the_plot_has_reference_patient_and_limit_and_is_made_once(compared):
    import slicer

    scene = slicer.mrmlScene
    compared.anomaly.plot.click()
    compared.anomaly.plot.click()
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    chart = scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    names = [one.GetName() for one in series]
    assert names[0].startswith("60 reference cases")
    assert names[1].startswith("this patient: ")
    assert names[2].startswith("unusual above ")
    assert series[0].GetTableNode().GetNumberOfRows() == 60
    assert (
        float(series[1].GetTableNode().GetTable().GetValue(0, 0).ToDouble())
        == compared.reference.plots.found()[1].score
    )
    assert len({tuple(one.GetColor()) for one in series}) == 3


def test_segments_are_coloured_by_how_unusual_they_are_and_back(compared):
    own = colours(compared)
    widgets = compared.anomaly
    widgets.coloured.click()
    odd = colours(compared)
    assert odd != own
    # Orange to red beyond the limit, blue up to it.
    assert odd["heart"][0] > odd["heart"][2]
    assert odd["aorta"][2] > odd["aorta"][0]
    assert "white at the limit" in read(widgets.colours_key, "text")
    assert widgets.colours_key.isVisible()
    compared.results.step(1)
    assert colours(compared) == odd
    widgets.coloured.click()
    assert colours(compared) == own
    assert not widgets.colours_key.isVisible()


def test_colours_of_importance_and_of_anomaly_give_way_to_each_other(compared):
    compared.anomaly.coloured.click()
    compared.results.coloured.click()
    assert not compared.anomaly.coloured.isChecked()
    compared.anomaly.coloured.click()
    assert not compared.results.coloured.isChecked()
    assert colours(compared)["heart"][0] > colours(compared)["heart"][2]


def test_another_false_alarm_rate_moves_the_limit_at_the_next_comparison(compared):
    before = compared.reference.plots.found()[1].threshold
    compared.anomaly.false_alarms.setValue(40)
    compared.anomaly.buttons["compare"].click()
    assert turn(lambda: not compared.task.running)
    assert compared.reference.plots.found()[1].threshold < before
    assert "false-alarm rate 40 %" in read(compared.anomaly.words, "text")


def test_a_saved_scene_has_plot_colours_and_rate_again(compared, settings, tmp_path):
    import slicer

    from Agg2ExpLib.scene.saving import save_scene
    from Testing.test_panel import open_scene

    compared.anomaly.false_alarms.setValue(10)
    compared.anomaly.coloured.click()
    compared.anomaly.plot.click()
    odd, words = colours(compared), read(compared.anomaly.words, "text")
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    assert not compared.anomaly.coloured.isEnabled()
    assert read(compared.anomaly.false_alarms, "value") == 5
    open_scene(tmp_path / "scene.mrb", tmp_path)
    assert read(compared.anomaly.false_alarms, "value") == 10
    assert compared.anomaly.coloured.isChecked()
    assert colours(compared) == {name: pytest.approx(colour, abs=1e-3) for name, colour in odd.items()}
    assert read(compared.anomaly.words, "text") == words
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    compared.anomaly.plot.click()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1


def test_without_a_comparison_plot_and_colours_say_what_they_need(panel):
    for widget in (panel.anomaly.plot, panel.anomaly.coloured):
        assert not widget.isEnabled()
        assert "Compare with a reference first" in read(widget, "toolTip")


def test_verdicts_of_an_older_scene_are_read_and_those_from_elsewhere_are_not():
    found = Verdicts(
        "p", 3, (Verdict("heart", "unusual", 99.0, (Reason("aorta", "s", 0.1, 0.2, 0.3),), 0.6, 0.5, (0.4,), 1),)
    )
    assert Verdicts.from_text(found.to_text()) == found
    one = '{"structure": "heart", "verdict": "usual", "percentile": 4, "reasons": []}'
    old = f'{{"profile": "p", "cases": 3, "notes": [], "verdicts": [{one}]}}'
    assert Verdicts.from_text(old).verdicts[0].distance() is None
    assert Verdicts.from_text(old.replace('"percentile": 4', '"percentile": 4, "score": "x"')) is None


def test_the_provenance_of_a_node_is_what_explanations_write(tmp_path):
    from Agg2ExpLib.explanation import Explanation

    assert set(provenance(Explanation.load(write_small_explanation(tmp_path / "e")))) == set(PROVENANCE)


def test_a_script_compares_methods_on_an_explanation(module, settings, tmp_path):

    from Testing.test_slicer_module import write_small_model

    settings.setValue("Agg2Exp/PythonExecutable", warm.program(tmp_path))
    logic = module.Agg2ExpLogic()
    model = str(write_small_model(tmp_path))
    shown = logic.explain(add_ct(), model, method="gradient")
    rows = logic.compareMethods(shown, ["gradient"], model=model, subset_voxels=500, subsets=5)
    assert {row["method"] for row in rows} == {"gradient"}
    with pytest.raises(RuntimeError, match="magic"):
        logic.compareMethods(shown, ["magic"], model=model)
