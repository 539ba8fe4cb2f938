"""Nothing that the panel shows is of another structure, another scan or another moment than the one that is chosen."""

from types import SimpleNamespace

import pytest

from Testing.bench.fixtures import ELSEWHERE, SPOT, add_ct, paint, read, turn
from Testing.test_panel import apply_and_wait, rows_by_name


@pytest.fixture
def layout(bench_scene, monkeypatch):
    """The part of a desktop's layout manager that decides which views are shown: Slicer's own."""
    import slicer

    logic = slicer.vtkMRMLLayoutLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.GetLayoutNode().SetViewArrangement(logic.GetLayoutNode().SlicerLayoutConventionalView)
    selection = slicer.vtkMRMLSelectionNode()
    selection.SetSingletonTag("Singleton")
    slicer.mrmlScene.AddNode(selection)
    manager = SimpleNamespace(layoutLogic=lambda: logic)
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: manager)

    def shown():
        views = logic.GetViewNodes()
        return [views.GetItemAsObject(index).GetClassName() for index in range(views.GetNumberOfItems())]

    return SimpleNamespace(node=logic.GetLayoutNode(), shown=shown)


def choose(panel, name):
    table = panel.results.table
    table.table.setCurrentCell(next(index for index, row in enumerate(table.rows) if row.name == name), 0)


def meaning(panel):
    return read(panel.results.meaning, "text")


def test_the_sentence_speaks_of_the_structure_that_is_shown(explained):
    choose(explained, "spot")
    assert "for heart lies in spot" in meaning(explained)
    explained.results.step(1)
    row = rows_by_name(explained)["spot"]
    assert meaning(explained) == row.sentence("aorta")
    assert "for aorta lies in spot" in meaning(explained)


def test_the_sentence_has_the_number_of_the_painted_region(explained):
    choose(explained, "far")
    before = meaning(explained)
    paint(explained.findings, "far", SPOT, identifier="far")
    assert turn(lambda: meaning(explained) != before)
    assert meaning(explained) == rows_by_name(explained)["far"].sentence("heart")


def test_the_sentence_goes_with_its_region_and_with_the_scene(explained):
    import slicer

    choose(explained, "far")
    explained.findings.GetSegmentation().RemoveSegment("far")
    assert turn(lambda: "far" not in rows_by_name(explained))
    assert meaning(explained) == ""
    assert explained.results.table.chosen_region() == ""
    choose(explained, "spot")
    assert meaning(explained)
    slicer.mrmlScene.Clear(0)
    assert not explained.results.meaning.isVisible()
    assert meaning(explained) == ""


def shown_graphs(panel):
    nodes = panel.shown.in_scene.keeper.all("vtkMRMLModelNode", "graph")
    return [node.GetAttribute("Agg2Exp.Class") for node in nodes if node.GetDisplayVisibility()]


def shown_legends(panel):
    import slicer

    nodes = panel.shown.in_scene.keeper.all("vtkMRMLModelNode", "graph")
    legends = [slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node.GetDisplayNode()) for node in nodes]
    return [legend.GetTitleText() for legend in legends if legend is not None and legend.GetVisibility()]


def test_the_graph_in_3d_is_that_of_the_structure_that_is_shown(explained):
    explained.results.buttons["graph3d"].click()
    assert shown_graphs(explained) == ["heart"]
    explained.results.step(1)
    assert shown_graphs(explained) == ["aorta"]
    (title,) = shown_legends(explained)
    assert "aorta" in title


def test_a_graph_that_is_not_shown_is_not_drawn(explained):
    explained.results.step(1)
    assert explained.shown.in_scene.keeper.all("vtkMRMLModelNode", "graph") == []


def test_another_explanation_takes_the_3d_view_too(explained):
    import slicer.util

    explained.results.buttons["graph3d"].click()
    first = explained.shown
    second = add_ct("second chest")
    slicer.util.arrayFromVolume(second)[0, 0, 0] = 77
    explained.inputs.volume.setCurrentNode(second)
    assert apply_and_wait(explained).status == "done"
    assert explained.shown.key != first.key
    assert not first.in_scene.graph_is_shown


def test_bars_beside_the_views_follow_the_structure(explained, layout):
    from Agg2ExpLib.panel import views

    explained.results.buttons["bars"].click()
    assert views.active_chart().GetAttribute("Agg2Exp.Class") == "heart"
    explained.results.step(1)
    assert views.active_chart().GetAttribute("Agg2Exp.Class") == "aorta"


def test_bars_keep_the_3d_view_and_lead_back(explained, layout):
    before = layout.node.GetViewArrangement()
    explained.results.buttons["bars"].click()
    kinds = {"vtkMRMLSliceNode", "vtkMRMLViewNode", "vtkMRMLPlotViewNode", "vtkMRMLTableViewNode"}
    assert kinds <= set(layout.shown())
    explained.results.buttons["graph3d"].click()
    assert "vtkMRMLViewNode" in layout.shown()
    explained.results.buttons["bars"].click()
    assert layout.node.GetViewArrangement() == before
    assert "vtkMRMLPlotViewNode" not in layout.shown()


def test_the_graph_is_shown_in_3d_whatever_the_layout(explained, layout):
    layout.node.SetViewArrangement(layout.node.SlicerLayoutFourUpPlotTableView)
    assert "vtkMRMLViewNode" not in layout.shown()
    explained.results.buttons["graph3d"].click()
    assert "vtkMRMLViewNode" in layout.shown()


def test_only_what_changed_is_drawn_again(explained, monkeypatch):
    drawn = []
    kind = type(explained.shown.in_scene)
    for name in ("show_overlay", "show_volume_rendering", "colour_segments"):
        monkeypatch.setattr(kind, name, lambda *_, name=name, **__: drawn.append(name))
    explained.results.opacity.value = 0.3
    assert turn(lambda: drawn)
    explained.results.coloured.click()
    assert drawn == ["show_overlay", "colour_segments"]


def test_a_chosen_line_moves_the_slices_to_its_region(explained):
    import slicer

    from Agg2ExpLib.scene import views

    views.add_missing_views(slicer.mrmlScene)
    red = next(node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetLayoutName() == "Red")
    choose(explained, "aorta")
    assert red.GetSliceOffset() == pytest.approx(3 * 7.5, abs=3)
    choose(explained, "far")
    assert red.GetSliceOffset() == pytest.approx(3 * 2, abs=3)


def test_work_shows_its_life_above_all_that_scrolls_and_can_be_cancelled_there(explained, child):
    child.does(hang=True)
    strip = explained.strip
    explained.results.buttons["whatif"].click()
    assert strip.bar.isVisible(), "before the press returns"
    assert strip.cancel.isVisible()
    assert turn(lambda: explained.task.running and child.pid)
    strip.cancel.click()
    assert turn(lambda: not explained.task.running)
    assert not strip.frame.isVisible()
    assert "what-if was cancelled" in read(explained.results.line.label, "text")


def test_a_what_if_that_fails_says_so_in_the_results(explained, child):
    child.does(refuse="the model is gone; add it again")
    explained.results.buttons["whatif"].click()
    assert turn(lambda: not explained.task.running)
    assert read(explained.results.line.label, "text") == "The model is gone; add it again."
    assert read(explained.strip.label, "text") == "The model is gone; add it again."
    explained.strip.cancel.click()
    assert not explained.strip.frame.isVisible()


def test_a_script_and_the_panel_give_a_segment_the_same_name(explained, child):
    paint(explained.findings, "heart", ELSEWHERE)
    apply_and_wait(explained)
    regions = [one.partition("=")[2].partition("=")[0] for one in child.task()["arguments"] if one.startswith("--roi=")]
    assert regions == ["spot", "far", "heart (2)"]
    import slicer

    slicer.modules.Agg2ExpWidget.logic.explain(explained.ct, rois=explained.findings)
    again = [one.partition("=")[2].partition("=")[0] for one in child.task()["arguments"] if one.startswith("--roi=")]
    assert again == regions


def test_extra_regions_are_outlines_under_an_overlay_until_somebody_fills_them(explained):
    display = explained.findings.GetDisplayNode()
    assert not display.GetVisibility2DFill()
    display.SetVisibility2DFill(True)
    explained.results.step(1)
    assert display.GetVisibility2DFill(), "whoever fills them wants them so"
    explained.results.modes["off"].click()
    explained.results.modes["magnitude"].click()
    assert not display.GetVisibility2DFill()
