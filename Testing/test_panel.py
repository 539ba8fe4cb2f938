"""The panel as a user meets it: buttons are pressed, the scene is looked at, and things go wrong."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from Testing.bench.fixtures import ELSEWHERE, SPOT, add_ct, add_findings, paint, read, turn, window_answers_within
from Testing.bench.small_explanation import SHAPE, labels, write_small_explanation


def rows_by_name(panel):
    return {row.name: row for row in panel.results.table.rows}


def apply_and_wait(panel):
    panel.explain.apply.click()
    assert turn(lambda: panel.task and not panel.task.running)
    return panel.task.outcome


def leftovers(tmp_path):
    """What is left in the temporary and the results' folder, but for the copy of the scan, which the next task reads too."""
    temporary = [path for path in (tmp_path / "tmp").iterdir() if [one.name for one in path.iterdir()] != ["chest.nii"]]
    return [path.name for path in [*temporary, *(tmp_path / "results").glob(".*")]]


def test_a_new_panel_says_what_to_do_first(panel):
    assert not panel.explain.apply.isEnabled()
    assert "Load a CT" in read(panel.explain.apply, "toolTip")
    assert "Load a CT" in read(panel.explain.reason, "text")


def test_loading_a_ct_and_pressing_apply_is_enough(panel, tmp_path):
    add_ct()
    assert panel.explain.apply.isEnabled()
    assert apply_and_wait(panel).status == "done"
    assert panel.shown.structure == "heart"
    assert rows_by_name(panel)["heart"].share > 0.3
    assert leftovers(tmp_path) == []


def test_the_result_is_in_the_scene_on_the_users_own_ct(explained):
    import slicer

    shown = explained.shown
    assert shown.ct_node is explained.ct
    segmentation = shown.saved.segmentation_node.GetSegmentation()
    names = {segmentation.GetSegment(key).GetName() for key in segmentation.GetSegmentIDs()}
    assert names == {"heart", "aorta"}
    overlay = shown.in_scene.overlay_node("heart")
    assert overlay.GetImageData().GetDimensions() == SHAPE
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_absent_structures_are_listed_greyed_with_the_reason(explained):
    box = explained.results.structure
    index = next(index for index in range(read(box, "count")) if "trachea" in box.itemText(index))
    assert not box.model().item(index).isEnabled()
    assert "nothing to explain" in box.model().item(index).toolTip()
    explained.results.step(1)
    explained.results.step(1)
    assert explained.shown.structure == "heart"


def test_segments_become_regions_of_the_table_under_their_own_names(panel):
    panel.inputs.volume.setCurrentNode(add_ct())
    panel.inputs.regions.setCurrentNode(add_findings(spot=SPOT, far=ELSEWHERE))
    assert apply_and_wait(panel).status == "done"
    rows = rows_by_name(panel)
    assert {"spot", "far", "heart", "aorta", "background"} <= set(rows)
    assert rows["spot"].enrichment > 3 > rows["far"].enrichment


def test_painting_changes_the_line_at_once_and_starts_no_process(explained):
    before = rows_by_name(explained)["far"].share
    task = explained.task
    begin = time.thread_time()
    paint(explained.findings, "far", SPOT, identifier="far")
    assert turn(lambda: rows_by_name(explained)["far"].share != before)
    assert time.thread_time() - begin < 0.5, "half a second of work, however busy the machine is"
    assert rows_by_name(explained)["far"].share == pytest.approx(rows_by_name(explained)["spot"].share)
    assert explained.task is task


def test_a_new_a_renamed_and_a_removed_segment_are_followed(explained):
    paint(explained.findings, "new one", SPOT)
    assert turn(lambda: "new one" in rows_by_name(explained))
    explained.findings.GetSegmentation().GetSegment("new one").SetName("tumour")
    assert turn(lambda: "tumour" in rows_by_name(explained))
    assert "new one" not in rows_by_name(explained)
    explained.findings.GetSegmentation().RemoveSegment("new one")
    assert turn(lambda: "tumour" not in rows_by_name(explained))
    explained.findings.GetSegmentation().RemoveSegment("far")
    assert turn(lambda: "far" not in rows_by_name(explained))


def test_a_segment_named_as_a_structure_is_not_mixed_up_with_it(explained):
    paint(explained.findings, "heart", ELSEWHERE)
    assert turn(lambda: "heart (2)" in rows_by_name(explained))
    rows = rows_by_name(explained)
    assert rows["heart (2)"].live
    assert rows["heart"].share > rows["heart (2)"].share


def test_the_table_sorts_by_a_click_on_a_heading_and_keeps_order_while_painting(explained):
    table = explained.results.table
    table.table.horizontalHeader().sectionClicked.emit(0)
    names = [row.name for row in table.rows]
    assert names == sorted(names, key=str.lower)
    paint(explained.findings, "far", SPOT, identifier="far")
    turn(lambda: False, 0.3)
    assert [row.name for row in table.rows] == names
    table.table.horizontalHeader().sectionClicked.emit(2)
    values = [row.enrichment for row in table.rows if np.isfinite(row.enrichment)]
    assert values == sorted(values, reverse=True)


def test_choosing_a_line_says_what_it_means_and_offers_its_region_to_the_what_if(explained):
    table = explained.results.table
    line = next(index for index, row in enumerate(table.rows) if row.name == "aorta")
    table.table.setCurrentCell(line, 0)
    assert "of what the model relied on for heart lies in aorta" in read(explained.results.meaning, "text")
    assert read(explained.results.region, "currentText") == "aorta"


def test_the_overlay_follows_its_fields(explained):
    results, shown = explained.results, explained.shown.in_scene
    results.modes["signed"].click()
    assert shown.overlay_node("heart", "signed") is not None
    strong = np.abs(values_of(shown.overlay_node("heart", "signed")))
    results.masked.click()
    masked = np.abs(values_of(shown.overlay_node("heart", "signed")))
    assert masked[labels().transpose(2, 1, 0) == 0].max() == 0 < strong[labels().transpose(2, 1, 0) == 0].max()
    results.modes["off"].click()
    assert explained.parameters.overlay().mode == "off"


def values_of(node):
    import slicer.util

    return slicer.util.arrayFromVolume(node)


def test_a_dragged_slider_draws_the_overlay_once_when_it_rests(explained, monkeypatch):
    drawn = []
    monkeypatch.setattr(type(explained.shown.in_scene), "show_overlay", lambda *_, **how: drawn.append(how["opacity"]))
    for step in range(10):
        explained.results.opacity.value = step / 10
    assert turn(lambda: drawn)
    turn(lambda: False, 0.3)
    assert drawn == [0.9]


def test_for_and_against_are_shown_with_the_signed_overlay(explained):
    table = explained.results.table.table
    assert (table.isColumnHidden(2), table.isColumnHidden(3)) == (False, True)
    explained.results.modes["signed"].click()
    assert (table.isColumnHidden(2), table.isColumnHidden(3)) == (True, False)


def test_a_what_if_shows_what_changed_and_keeps_the_second_segmentation_apart(explained, tmp_path):
    import slicer

    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    box = explained.results.region
    box.setCurrentIndex(next(index for index in range(read(box, "count")) if "spot (yours)" in box.itemText(index)))
    explained.results.buttons["whatif"].click()
    assert turn(lambda: not explained.task.running)
    assert "heart: Dice 0.00, 14 → 0 ml" in read(explained.results.whatif, "text")
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == before + 1
    assert leftovers(tmp_path) == []


def test_an_estimate_is_shown_before_anything_is_started(panel):
    add_ct()
    panel.explain.estimate.click()
    assert turn(lambda: not panel.task.running)
    assert read(panel.explain.cost, "text") == "Between 3.1 s and 1 min 35 s, about 2.0 GB on the CPU."
    panel.explain.samples.setValue(50)
    assert not panel.explain.cost.isVisible()


def test_checking_the_environment_fills_devices_and_log(panel):
    panel.explain.environment.click()
    assert turn(lambda: not panel.task.running)
    assert [panel.explain.device.itemText(1)] == ["CPU, 1 threads"]
    assert "CPU, 1 threads" in panel.log.content()
    assert "Ready" in read(panel.explain.line.label, "text")


@pytest.mark.parametrize("launcher", [False, True])
def test_cancel_leaves_no_process_no_file_and_a_usable_panel(panel, child, tmp_path, launcher):
    child.does(hang=True, launcher=launcher)
    add_ct()
    panel.explain.apply.click()
    assert turn(lambda: child.pid() and panel.strip.bar.isVisible())
    assert read(panel.explain.apply, "text") == "Cancel"
    panel.explain.apply.click()
    assert read(panel.explain.apply, "text") == "Cancelling …"
    assert turn(lambda: not panel.task.running)
    assert turn(lambda: not child.is_there())
    assert leftovers(tmp_path) == []
    assert list((tmp_path / "results").iterdir()) == []
    assert "cancelled" in read(panel.explain.line.label, "text")
    child.does()
    assert apply_and_wait(panel).status == "done"


def test_a_child_killed_from_outside_is_told_with_its_last_words(panel, child):
    child.does(hang=True)
    add_ct()
    panel.explain.apply.click()
    assert turn(child.pid)
    os.kill(child.pid(), 9)
    assert turn(lambda: not panel.task.running)
    assert "ended from outside or crashed" in read(panel.explain.line.label, "text")
    assert read(panel.explain.apply, "text") == "Apply"


def test_a_refusal_of_the_child_is_shown_in_its_own_sentence(panel, child):
    child.does(refuse="the model has no class 'hart': did you mean heart?")
    add_ct()
    apply_and_wait(panel)
    assert read(panel.explain.line.label, "text") == "The model has no class 'hart': did you mean heart?."[:-1] + "."
    assert "did you mean heart" in panel.log.content()


def test_a_missing_gpu_is_told_and_the_panel_goes_on(panel, child):
    child.does(refuse="device cuda:0 was asked for, but there is no CUDA device; use --device auto or cpu")
    add_ct()
    apply_and_wait(panel)
    assert "there is no CUDA device" in read(panel.explain.line.label, "text")
    assert panel.explain.apply.isEnabled()


@pytest.mark.parametrize("how", ["scene closed", "module reloaded", "module unloaded"])
def test_closing_the_scene_and_reloading_end_what_runs(widget, child, tmp_path, how):
    import slicer

    child.does(hang=True, launcher=True)
    add_ct()
    widget.panel.explain.apply.click()
    assert turn(child.pid)
    {
        "scene closed": lambda: slicer.mrmlScene.Clear(0),
        "module reloaded": widget.onReload,
        "module unloaded": widget.cleanup,
    }[how]()
    assert turn(lambda: not child.is_there())
    assert leftovers(tmp_path) == []


def test_after_a_reload_the_new_panel_shows_what_the_old_one_did(explained, widget):
    import slicer

    rows = [(row.name, row.share) for row in explained.results.table.rows]
    widget.onReload()
    panel = slicer.modules.Agg2ExpWidget.panel
    assert panel is not explained
    assert type(panel) is not type(explained)
    assert [(row.name, row.share) for row in panel.results.table.rows] == rows
    assert panel.explain.apply.isEnabled()


def test_after_the_scene_was_closed_the_panel_is_as_new(explained):
    import slicer

    slicer.mrmlScene.Clear(0)
    assert explained.shown is None
    assert explained.results.table.rows == []
    assert not explained.explain.apply.isEnabled()
    add_ct("second")
    assert apply_and_wait(explained).status == "done"


def test_a_second_ct_has_an_explanation_of_its_own_beside_the_first(explained):
    second = add_ct("second chest")
    import slicer.util

    array = slicer.util.arrayFromVolume(second)
    array[0, 0, 0] = 77
    explained.inputs.volume.setCurrentNode(second)
    assert "Made with another scan: chest" in read(explained.results.notice, "text")
    assert apply_and_wait(explained).status == "done"
    assert read(explained.results.explanation, "count") == 2
    assert explained.shown.ct_node is second
    explained.results.explanation.setCurrentIndex(0)
    assert explained.shown.ct_node is explained.ct


def test_an_explanation_of_another_model_is_marked_as_such(explained):
    assert "another model" not in read(explained.results.notice, "text")
    assert explained.shown.model_name == "thorax-phantom"
    explained.shown.saved.attributes["ModelName"] = "other"
    explained.presenter.tell_about_shown()
    assert "Made with another model: other, not thorax-phantom" in read(explained.results.notice, "text")


def test_deleting_the_inputs_leaves_a_usable_panel(explained):
    import slicer

    slicer.mrmlScene.RemoveNode(explained.findings)
    slicer.mrmlScene.RemoveNode(explained.ct)
    turn(lambda: False, 0.2)
    assert not explained.explain.apply.isEnabled()
    explained.results.step(1)
    assert explained.shown.structure == "aorta"
    add_ct("new")
    assert explained.explain.apply.isEnabled()


def test_a_saved_scene_shows_its_results_again_without_computing(explained, tmp_path):
    import slicer

    from Agg2ExpLib.scene.saving import save_scene

    explained.explain.samples.setValue(7)
    explained.explain.structures.tick(["heart", "aorta"])
    explained.results.structure.setCurrentIndex(1)
    rows = [(row.name, round(row.share, 6)) for row in explained.results.table.rows]
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    task = explained.task
    open_scene(tmp_path / "scene.mrb", tmp_path)
    assert explained.task is task
    assert explained.shown.structure == "aorta"
    assert read(explained.explain.samples, "value") == 7
    assert explained.explain.structures.ticked() == ("aorta", "heart")
    assert [(row.name, round(row.share, 6)) for row in explained.results.table.rows] == rows


def open_scene(path, tmp_path):
    import zipfile

    import slicer

    with zipfile.ZipFile(path) as bundle:
        bundle.extractall(tmp_path / "unpacked")
    (found,) = (tmp_path / "unpacked").glob("*/*.mrml")
    slicer.mrmlScene.SetURL(str(found))
    slicer.mrmlScene.SetRootDirectory(str(found.parent))
    assert slicer.mrmlScene.Connect()


def test_a_scene_whose_explanation_folder_is_gone_still_shows_table_and_live_lines(explained, tmp_path):
    import shutil

    import slicer

    from Agg2ExpLib.scene.saving import save_scene

    explained.results.modes["signed"].click()
    rows = {row.name: row.share for row in explained.results.table.rows}
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    shutil.rmtree(tmp_path / "results")
    open_scene(tmp_path / "scene.mrb", tmp_path)
    assert "Shown from the scene alone" in read(explained.results.notice, "text")
    assert {row.name: pytest.approx(row.share, rel=1e-4) for row in explained.results.table.rows} == rows
    for name in ("whatif", "bars", "strongest"):
        assert "no longer where it was" in read(explained.results.buttons[name], "toolTip")
    assert not explained.results.opacity.isEnabled()


def test_a_folder_computed_elsewhere_can_be_opened(panel, tmp_path):
    folder = write_small_explanation(tmp_path / "given", regions={"spot": SPOT})
    panel.presenter.show_folder(folder)
    assert {"heart", "spot"} <= set(rows_by_name(panel))
    assert rows_by_name(panel)["spot"].live is False


def test_structures_are_searched_and_ticked(panel):
    structures = panel.explain.structures
    assert structures.ticked() == ()
    structures.all.click()
    structures.search.setText("lung lower")
    shown = [item.text() for item in structures._items() if not item.isHidden()]
    assert shown == ["lung lower lobe left", "lung lower lobe right"]
    structures.none.click()
    structures.search.setText("")
    assert len(structures.ticked()) == 14
    structures.all.click()
    assert structures.ticked() is None
    structures.none.click()
    add_ct()
    assert panel.explain.apply.isEnabled()
    assert "a quick look at what is visible, or at the 2 largest" in read(structures.count, "text")


def test_visible_ticks_the_structures_whose_segments_are_shown(explained):
    node = explained.shown.saved.segmentation_node
    segmentation = node.GetSegmentation()
    identifier = next(key for key in segmentation.GetSegmentIDs() if segmentation.GetSegment(key).GetName() == "heart")
    for key in segmentation.GetSegmentIDs():
        node.GetDisplayNode().SetSegmentVisibility(key, key == identifier)
    explained.explain.structures.visible.click()
    assert explained.explain.structures.ticked() == ("heart",)


def test_a_model_is_added_remembered_and_said_to_be_gone(panel, settings, tmp_path):
    import shutil

    from Agg2ExpLib.models import bundled_models

    copy = tmp_path / "my model"
    shutil.copytree(bundled_models()["thorax-phantom"] / "configs", copy / "configs")
    panel.inputs.add_model(str(copy / "configs" / "metadata.json"))
    assert panel.inputs.model_source == str(copy)
    assert json.loads(settings.value("Agg2Exp/Models")) == [str(copy)]
    add_ct()
    shutil.rmtree(copy)
    panel.refresh()
    assert "no longer at" in read(panel.explain.apply, "toolTip")


def test_the_card_of_a_model_can_be_read(panel):
    panel.inputs.info.click()
    text = read(panel.inputs.card_text, "text")
    assert "16 structures: aorta, lung upper lobe left" in text
    assert "Licence: Apache-2.0" in text


def test_missing_packages_stop_apply_with_a_sentence(panel, settings, pip):
    settings.setValue("Agg2Exp/PythonExecutable", "")
    pip.hidden, pip.answer = {"monai"}, False
    add_ct()
    panel.explain.apply.click()
    assert "you chose not to install" in read(panel.explain.line.label, "text")
    assert panel.task is None


def test_packages_are_looked_at_when_apply_is_pressed_not_before(panel, settings, monkeypatch):
    calls = []
    monkeypatch.setattr("Agg2ExpLib.panel.desk.ensure_packages", lambda: calls.append(1))
    add_ct()
    panel.refresh()
    assert calls == []


def test_the_window_answers_within_a_tenth_of_a_second_while_the_panels_job_floods_it(panel, child):
    child.does(events=20_000, refuse="that was all")
    add_ct()
    panel.log.frame.collapsed = False

    def begin():
        panel.explain.apply.click()
        return lambda: not panel.task.running

    assert window_answers_within(0.1, begin)
    assert "That was all" in read(panel.explain.line.label, "text")


def test_a_cancelled_comparison_of_methods_leaves_nothing_behind(panel, child, tmp_path):
    child.does(hang=True)
    add_ct()
    assert "Tick the structures" in read(panel.explain.compare, "toolTip")
    panel.explain.structures.tick(["heart"])
    panel.explain.compare.click()
    assert turn(child.pid)
    panel.explain.apply.click()
    assert turn(lambda: not panel.task.running)
    assert turn(lambda: not child.is_there())
    assert leftovers(tmp_path) == []
    assert list((tmp_path / "results").iterdir()) == []
    assert "cancelled" in read(panel.explain.line.label, "text")


def test_a_table_is_saved_with_full_numbers(explained, tmp_path):
    import csv

    from Agg2ExpLib.panel.controllers.export import copy_folder, write_rows

    write_rows(tmp_path / "row.csv", "heart", explained.results.table.rows)
    with (tmp_path / "row.csv").open() as stream:
        found = {row["name"]: row for row in csv.DictReader(stream)}
    assert float(found["spot"]["mass_accuracy"]) == rows_by_name(explained)["spot"].share
    assert found["spot"]["recomputed"] == "yes"
    (tmp_path / "copies").mkdir()
    assert (copy_folder(explained.shown, tmp_path / "copies") / "explanation.json").is_file()


def test_the_strongest_voxel_is_gone_to(explained, monkeypatch):
    went = []
    monkeypatch.setattr(type(explained.shown.in_scene), "go_to_strongest", lambda self, name: went.append(name))
    explained.results.buttons["strongest"].click()
    assert went == ["heart"]


def test_the_panel_fits_380_pixels_with_everything_open(explained, widget):
    host = widget.parent
    for frame in (explained.explain.advanced, explained.anomaly.frame, explained.log.frame):
        frame.collapsed = False
    explained.inputs.show_card()
    explained.results.say("Made with another scan: " + "x" * 200)
    turn(lambda: False, 0.1)
    assert read(host, "minimumSizeHint").width() <= 380


def test_every_field_can_be_reached_with_the_keyboard_and_has_a_name_or_text(explained, widget):
    import qt

    kinds = ("QAbstractButton", "QComboBox", "QAbstractSpinBox", "QLineEdit", "QAbstractItemView")
    nameless = []
    for one in widget.parent.findChildren(qt.QWidget):
        reached = read(one, "focusPolicy") & qt.Qt.TabFocus and one.isVisible()
        if reached and any(one.inherits(kind) for kind in kinds):
            text = "" if one.inherits("QLineEdit") else read(one, "text")
            if not (read(one, "accessibleName") or text or read(one, "objectName")):
                nameless.append(one)
    # Parts of widgets that have a name themselves.
    known = ("ctkSliderWidget", "ctkDoubleSpinBox", "ctkCollapsibleButton", "qMRMLNodeComboBox")
    assert [one for one in nameless if type(one.parent()).__name__ not in known] == []


def test_a_parameter_node_from_elsewhere_does_no_harm(panel, widget):
    import slicer

    node = slicer.mrmlScene.GetSingletonNode("Agg2Exp", "vtkMRMLScriptedModuleNode")
    widget.onSceneStartImport()
    for name, text in {
        "samples": "many",
        "method": "magic",
        "seed": "{",
        "overlay": "evil",
        "explanation": "x",
    }.items():
        node.SetParameter(name, text)
    widget.onSceneEnd()
    assert read(panel.explain.samples, "value") == 20
    assert panel.parameters.choices().problem() == ""
    assert panel.results.modes["magnitude"].isChecked()


def test_the_log_keeps_its_last_lines_and_can_be_copied(panel):
    import qt

    panel.log.add([f"line {number}" for number in range(5000)])
    panel.log.copy()
    lines = qt.QApplication.clipboard().text().splitlines()
    assert (len(lines), lines[-1]) == (2000, "line 4999")


def test_figures_are_offered_only_where_they_can_be_drawn(explained, monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.panel.controllers.export.figures_available", lambda: False)
    explained.refresh()
    assert "matplotlib" in read(explained.results.buttons["heat map"], "toolTip")
    monkeypatch.setattr("Agg2ExpLib.panel.controllers.export.figures_available", lambda: True)
    explained.refresh()
    assert explained.results.buttons["heat map"].isEnabled()


def test_bars_and_graph_put_their_nodes_into_the_scene(explained):
    import slicer

    explained.results.buttons["bars"].click()
    explained.results.buttons["graph3d"].click()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLModelNode") >= 1


def test_results_go_where_the_setting_says(panel, tmp_path):
    add_ct()
    assert apply_and_wait(panel).status == "done"
    explained = panel
    assert explained.shown.folder.parent == tmp_path / "results"
    assert Path(explained.shown.folder, "explanation.json").is_file()
