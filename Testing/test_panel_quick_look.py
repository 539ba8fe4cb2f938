"""Apply is a quick look, Refine goes on from it, long work is asked about, and what-ifs are looked at side by side."""

import pytest

from Testing.bench.fixtures import SPOT, add_ct, add_findings, paint, read, turn
from Testing.test_panel import apply_and_wait, rows_by_name


def asked(child, name):
    """What the panel asked of the child in an option; None without it."""
    found = [one.partition("=")[2] for one in child.task()["arguments"] if one.startswith(f"--{name}=")]
    return found[0] if found else None


def hide_all_but(node, *names):
    segmentation, display = node.GetSegmentation(), node.GetDisplayNode()
    for key in segmentation.GetSegmentIDs():
        display.SetSegmentVisibility(key, segmentation.GetSegment(key).GetName() in names)


def test_apply_is_a_quick_look_at_the_two_largest(panel, child):
    add_ct()
    assert apply_and_wait(panel).status == "done"
    assert (asked(child, "method"), asked(child, "largest"), asked(child, "classes")) == ("gradient", "2", None)


def test_a_quick_look_is_at_what_is_visible_where_that_is_little(explained, child):
    hide_all_but(explained.shown.saved.segmentation_node, "aorta")
    hide_all_but(explained.findings)
    apply_and_wait(explained)
    assert (asked(child, "largest"), asked(child, "classes")) == (None, "aorta")


def test_what_it_looked_at_for_the_aorta_takes_two_presses_and_my_finding_three(panel):
    import qt

    add_ct()
    items = panel.explain.structures._items()
    next(item for item in items if item.text() == "aorta").setCheckState(qt.Qt.Checked)
    assert apply_and_wait(panel).status == "done"
    assert panel.shown.structure == "aorta"
    assert panel.results.table.rows, "after two presses"
    panel.inputs.regions.setCurrentNode(add_findings(spot=SPOT))
    assert turn(lambda: "spot" in rows_by_name(panel), 20), "painted afterwards: one press, nothing is computed anew"
    panel.results.table.choose_region(rows_by_name(panel)["spot"].region)
    assert "for aorta lies in spot" in read(panel.results.meaning, "text")


def test_refine_goes_on_to_smoothgrad_and_to_what_is_ticked_and_keeps_what_is_there(explained, child):
    first = explained.shown.key
    explained.results.step(1)
    explained.explain.structures.tick(["trachea"])
    explained.explain.samples.setValue(7)
    assert explained.explain.refine.isEnabled(), read(explained.explain.refine, "toolTip")
    explained.explain.refine.click()
    assert turn(lambda: not explained.task.running)
    assert (asked(child, "method"), asked(child, "samples")) == ("smoothgrad", "7")
    assert asked(child, "classes") == "heart,aorta,trachea"
    assert explained.shown.structure == "aorta", "the structure that was shown"
    from Agg2ExpLib.panel.current_explanation import shown_in

    assert first in {one.key for one in shown_in(explained.ct.GetScene())}


def test_refine_says_why_it_cannot_and_how_long_it_takes(explained):
    document = explained.shown.in_scene.explanation.document
    document["timings"] = {"attribution_seconds": 60.0, "segmentation_seconds": 5.0}
    explained.explain.samples.setValue(3)
    explained.refresh()
    assert "already" in read(explained.explain.refine, "toolTip"), "SmoothGrad of three samples is shown"
    explained.explain.samples.setValue(30)
    assert read(explained.explain.refine, "text") == "Refine (about 10 min)"
    assert explained.explain.refine.isEnabled()


def test_work_of_more_than_ten_minutes_asks_first_and_waits_for_the_answer(panel, child):
    child.does(ask=True)
    add_ct()
    panel.explain.apply.click()
    assert turn(panel.strip.go_on.isVisible)
    assert read(panel.strip.label, "text") == "This takes 40 min to 1 h 20 min more. Go on?"
    turn(lambda: False, 0.2)
    assert panel.task.running
    panel.strip.go_on.click()
    assert turn(lambda: not panel.task.running)
    assert panel.task.outcome.status == "done"


def test_a_script_is_not_asked(panel, child, widget):
    child.does(ask=True)
    assert widget.logic.explain(add_ct()) is not None


def test_no_to_the_question_leaves_nothing(panel, child, tmp_path):
    child.does(ask=True)
    add_ct()
    panel.explain.apply.click()
    assert turn(panel.strip.go_on.isVisible)
    panel.strip.cancel.click()
    assert turn(lambda: not panel.task.running)
    assert panel.task.outcome.status == "cancelled"
    assert list((tmp_path / "results").iterdir()) == []


def visible_outlines(panel):
    from Agg2ExpLib.panel.controllers.whatif import whatifs_of

    nodes = [panel.shown.saved.segmentation_node, *whatifs_of(panel.shown.key)]
    return [bool(node.GetDisplayNode().GetVisibility()) for node in nodes]


def test_what_ifs_stand_side_by_side_and_are_seen_before_and_after(explained, child):
    for region in ("aorta", "heart"):
        box = explained.results.region
        box.setCurrentIndex(next(index for index in range(read(box, "count")) if box.itemText(index) == region))
        explained.results.buttons["whatif"].click()
        assert turn(lambda: not explained.task.running)
        assert explained.task.outcome.status == "done", explained.task.outcome
    whatifs = explained.results.whatifs
    assert len(whatifs._lines) == 2
    assert visible_outlines(explained) == [True, False, True], "the last one, over the first prediction"
    assert "heart: Dice 0.00, 14 → 0 ml (-100\u00a0%)" in read(explained.results.whatif, "text")
    whatifs.modes["before"].click()
    assert visible_outlines(explained) == [True, False, False]
    whatifs.modes["after"].click()
    assert visible_outlines(explained) == [False, False, True]
    whatifs.table.setCurrentCell(0, 0)
    assert visible_outlines(explained) == [False, True, False]
    assert "With aorta replaced" in read(explained.results.whatif, "text")
    thick = whatifs_display(explained).GetSliceIntersectionThickness()
    assert thick > explained.shown.saved.segmentation_node.GetDisplayNode().GetSliceIntersectionThickness()


def whatifs_display(panel):
    from Agg2ExpLib.panel.controllers.whatif import whatifs_of

    return whatifs_of(panel.shown.key)[0].GetDisplayNode()


def test_what_a_structure_needs_is_said_of_that_structure_alone(explained, child):
    explained.results.buttons["needs"].click()
    assert turn(lambda: not explained.task.running)
    told = read(explained.results.needs, "text")
    assert told.startswith("The heart needs 5 mm around it. Dice by margin: 0\u00a0mm\u00a00.40, 2\u00a0mm\u00a00.80")
    explained.results.step(1)
    assert not explained.results.needs.isVisible()
    explained.results.step(1)
    assert read(explained.results.needs, "text") == told


def test_a_chosen_line_has_a_mark_at_its_strongest_voxel_and_a_thick_outline(explained):
    import numpy as np

    from Agg2ExpLib.scene.selection import EMPHASIS, displays
    from Testing.bench.small_explanation import AFFINE, attribution, labels

    table = explained.results.table
    table.choose_region("aorta")
    node = explained.shown.in_scene.keeper.find("vtkMRMLMarkupsFiducialNode", "selection-mark")
    where = np.unravel_index(np.argmax(np.where(labels() == 2, np.abs(attribution(1)), -1)), labels().shape)
    place = [0.0, 0.0, 0.0]
    node.GetNthControlPointPositionWorld(0, place)
    assert place == pytest.approx([float(part) for part in AFFINE[:3, :3] @ where])
    assert node.GetNthControlPointLabel(0) == "strongest for heart in aorta"
    segmentation = explained.shown.saved.segmentation_node
    (thick,) = [one for one in displays(segmentation) if one.GetAttribute(EMPHASIS)]
    ids = segmentation.GetSegmentation().GetSegmentIDs()
    seen = [segmentation.GetSegmentation().GetSegment(key).GetName() for key in ids if thick.GetSegmentVisibility(key)]
    assert seen == ["aorta"]
    explained.results.step(1)
    assert node.GetNthControlPointLabel(0) == "strongest for aorta"


def test_pointing_in_a_view_chooses_the_line_there(explained):
    import slicer

    crosshair = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    explained.presenter.follow_crosshair()
    crosshair.SetCrosshairRAS(3.0 * 16, 3.0 * 8, 3.0 * 8)
    assert turn(lambda: explained.results.table.chosen_region() == "aorta", 20)
    assert "lies in aorta" in read(explained.results.meaning, "text")
    crosshair.SetCrosshairRAS(3.0 * 21, 3.0 * 2, 3.0 * 2)
    assert turn(lambda: "far" in read(explained.results.meaning, "text"), 20), (
        "a painted region before what lies under it"
    )


def test_removing_the_scan_says_so_and_disables_what_needs_it(explained):
    import slicer

    slicer.mrmlScene.RemoveNode(explained.ct)
    assert turn(lambda: "no longer in the scene" in read(explained.results.notice, "text"), 20)
    for name in ("bars", "graph3d", "strongest", "needs"):
        assert not explained.results.buttons[name].isEnabled(), name
    assert not explained.explain.refine.isEnabled()


def test_a_tiny_painted_region_is_handed_over(panel):
    import numpy as np

    dot = np.zeros(SPOT.shape, dtype=bool)
    dot[6, 6, 6] = True
    add_ct()
    panel.inputs.regions.setCurrentNode(add_findings(dot=dot))
    assert apply_and_wait(panel).status == "done"
    assert rows_by_name(panel)["dot"].voxels == 1


def test_many_regions_are_searched_and_overlap_is_told(explained):
    table = explained.results.table
    assert not table.search.isVisible()
    for number in range(30):
        paint(explained.findings, f"label {number}", SPOT)
    assert turn(lambda: len(table.rows) > 30, 20)
    assert table.search.isVisible()
    assert "Regions overlap: their shares add up to" in read(table.note, "text")
    table.search.setText("cardiovascular")

    def shown():
        return sorted(row.name for line, row in enumerate(table.rows) if not table.table.isRowHidden(line))

    assert shown() == ["aorta", "heart"]
    table.search.setText("")
    texts = [table.group.itemText(index) for index in range(read(table.group, "count"))]
    assert texts == ["all groups", "lungs (1)", "heart (1)", "vessels (1)", "other (33)"]
    table.group.setCurrentIndex(3)
    assert shown() == ["aorta"]
    paint(explained.findings, "rib_left_4", SPOT)
    assert turn(lambda: "bones (1)" in [table.group.itemText(i) for i in range(read(table.group, "count"))], 20)
    assert shown() == ["aorta"], "the chosen group stays"
