"""Each instance of a structure in the panel: asked of the child, listed, marked in words, and gone to by a press."""

import pytest

from Testing.bench.fixtures import read, turn


def cells(table):
    rows, columns = int(read(table, "rowCount")), int(read(table, "columnCount"))
    return [[table.item(row, column).text() for column in range(columns)] for row in range(rows)]


def asked(panel):
    panel.results.buttons["instances"].click()
    assert turn(lambda: not panel.task.running)
    return panel.results.instances


def test_the_instances_are_listed_for_their_structure_alone_and_the_odd_one_is_marked_in_words(explained, child):
    found = asked(explained)
    arguments = child.task()["arguments"]
    assert "--classes=heart" in arguments
    assert not any(one.startswith("--method") for one in arguments), "the explanation's own method"
    lines = cells(found.table)
    assert lines[0] == ["4", "3.50", "10 %", "20 %", "70 %", "less inside"], "before the others"
    assert [line[0] for line in lines] == ["4", "1", "2", "3", "5", "6", "7"]
    assert not any(line[-1] for line in lines[1:])
    assert lines[6][2:5] == ["–", "–", "–"]
    assert "z 31.0" in found.table.item(0, 0).toolTip()
    assert read(found.label, "text").startswith("heart: 7 instances")
    assert "number 4 (less inside" in read(found.label, "text")
    explained.results.step(1)
    assert not found.table.isVisible()
    assert not found.label.isVisible()
    explained.results.step(1)
    assert cells(found.table) == lines


def test_a_press_goes_to_the_instance(explained):
    import slicer

    found = asked(explained)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    found.table.setCurrentCell(0, 0)
    place = [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    assert place == pytest.approx([12.0, 18.0, 21.0])
    # Scrolled away, and back by a press on the same line.
    node.JumpSliceByCentering(0.0, 0.0, 0.0)
    found.table.cellClicked.emit(0, 0)
    assert [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)] == pytest.approx(place)


def test_a_method_whose_instances_do_not_sum_is_replaced_by_the_gradient(explained, child):
    explained.shown.in_scene.explanation.document["settings"]["method"] = "kernelshap"
    asked(explained)
    assert "--method=gradient" in child.task()["arguments"]
    assert read(explained.results.instances.label, "text").startswith(
        "By plain gradient: instances of KernelSHAP do not"
    )


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"heart": [[{"number": 1}], ""]}', '{"heart": 3}', '{"heart": [[7], "x"]}']
)
def test_a_scene_from_elsewhere_lists_nothing_that_it_does_not_hold(explained, text):
    from Agg2ExpLib.panel.controllers.instances import INSTANCES, instances_in

    explained.shown.saved.anchor.SetAttribute(INSTANCES, text)
    assert instances_in(explained.shown.saved.anchor) == {}
    explained.results.step(1)
    explained.results.step(1)
    assert not explained.results.instances.table.isVisible()


def test_what_needs_a_process_is_not_offered_for_export_while_one_runs_and_dicom_only_of_a_dicom_series(
    explained, monkeypatch
):
    from Agg2ExpLib.panel.controllers.export import offered

    def kinds(busy):
        return {kind: (text, possible) for text, (kind, possible) in offered(explained.shown, busy=busy).items()}

    assert [kind for kind, (_, possible) in kinds(False).items() if not possible] == ["dicom"]
    assert "no DICOM series" in kinds(False)["dicom"][0]
    explained.shown.in_scene.explanation.document["image"]["dicom"] = {"study": "1.2", "series": "1.3"}
    assert all(possible for _, possible in kinds(False).values())
    assert [kind for kind, (_, possible) in kinds(True).items() if not possible] == ["figures", "html", "dicom"]
    assert "after the running task" in kinds(True)["html"][0]
    explained.results.buttons["instances"].click()
    asked_busy = []
    monkeypatch.setattr("Agg2ExpLib.panel.controllers.export.ask_and_export", lambda *_, busy: asked_busy.append(busy))
    explained.results.buttons["export"].click()
    assert turn(lambda: not explained.task.running)
    explained.results.buttons["export"].click()
    assert asked_busy == [True, False]
