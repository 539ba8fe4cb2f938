"""Which file the child reads: the user's own while the scene holds the same, else one copy for all tasks until the scan changes."""

from pathlib import Path

import numpy as np
import pytest

from Agg2ExpLib.panel.compute.scan_files import ScanFiles
from Testing.bench.fixtures import add_ct, turn
from Testing.bench.small_explanation import AFFINE, scan


@pytest.fixture
def loaded(bench_scene, tmp_path):
    """A CT that Slicer has read from a file of the user's."""
    import slicer

    from Agg2ExpLib.volume import Grid, Volume, write_volume

    voxels = scan()
    path = write_volume(Volume(voxels, Grid(voxels.shape, AFFINE)), tmp_path / "patient 7.nii.gz")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "chest")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.file = path
    return node


@pytest.fixture
def files(bench_scene):
    found = ScanFiles()
    yield found
    found.clear()


def change(node):
    import slicer.util

    slicer.util.arrayFromVolume(node)[3, 3, 3] = 321
    slicer.util.arrayFromVolumeModified(node)


def copies(tmp_path):
    return sorted(path.name for path in (tmp_path / "tmp").glob("*/*.nii"))


def test_a_scan_that_is_as_it_was_read_is_explained_from_the_users_own_file(files, loaded, tmp_path):
    from Agg2ExpLib.volume import file_sha256

    path, origin = files.of(loaded).hand_over()
    assert path == loaded.file
    assert (origin.name, origin.path, origin.edited) == ("chest", str(path), False)
    assert origin.sha256 == file_sha256(path)
    assert copies(tmp_path) == []


def test_an_edited_scan_is_written_once_and_says_what_it_was(files, loaded, tmp_path):
    from Agg2ExpLib.volume import file_sha256, read_volume

    change(loaded)
    path, origin = files.of(loaded).hand_over()
    assert path != loaded.file
    assert read_volume(path).voxels[3, 3, 3] == 321
    assert (origin.path, origin.edited, origin.sha256) == (str(loaded.file), True, file_sha256(path))
    assert files.of(loaded).hand_over()[0] == path
    assert copies(tmp_path) == ["chest.nii"]


def test_a_further_edit_is_another_copy_and_the_first_one_goes(files, loaded, tmp_path):
    change(loaded)
    first = files.of(loaded).hand_over()[0]
    import slicer.util

    slicer.util.arrayFromVolume(loaded)[3, 3, 3] = 99
    slicer.util.arrayFromVolumeModified(loaded)
    second = files.of(loaded).hand_over()[0]
    assert second != first
    assert not first.exists()


def test_a_copy_stays_while_a_task_reads_it(files, loaded):
    change(loaded)
    first = files.of(loaded)
    path = first.hand_over()[0]
    first.acquire()
    files.clear()
    assert path.exists()
    first.release()
    assert not path.exists()


def test_a_moved_scan_is_handed_over_where_it_is(files, loaded):
    import slicer
    import slicer.util

    from Agg2ExpLib.volume import read_volume

    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (10, 20, 30)
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    before = files.of(loaded).hand_over()[0]
    loaded.SetAndObserveTransformNodeID(moved.GetID())
    path, origin = files.of(loaded).hand_over()
    assert before == loaded.file != path
    assert origin.edited
    assert read_volume(path).affine[:3, 3] == pytest.approx([10, 20, 30])


def test_a_file_that_was_replaced_since_is_not_taken_for_what_the_scene_shows(files, loaded):
    from Agg2ExpLib.volume import Grid, Volume, read_volume, write_volume

    shown = scan()
    write_volume(Volume(shown + 7, Grid(shown.shape, AFFINE)), loaded.file)
    path, origin = files.of(loaded).hand_over()
    assert path != loaded.file
    assert origin.edited
    assert np.array_equal(read_volume(path).voxels, shown)


def test_a_file_that_is_gone_or_never_was_is_not_named(files, loaded):
    loaded.file.unlink()
    assert files.of(loaded).hand_over()[1].path == ""
    origin = files.of(add_ct("made here")).hand_over()[1]
    assert (origin.path, origin.edited) == ("", False)


def test_the_dicom_identifiers_of_study_series_and_frame_are_handed_over(files, loaded, monkeypatch):
    from types import SimpleNamespace

    import slicer

    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
    item = tree.CreateItem(study, loaded) if not tree.GetItemByDataNode(loaded) else tree.GetItemByDataNode(loaded)
    tree.SetItemParent(item, study)
    tree.SetItemUID(study, "DICOM", "1.2.3")
    tree.SetItemUID(item, "DICOM", "1.2.3.4")
    loaded.SetAttribute("DICOM.instanceUIDs", "1.2.3.4.1 1.2.3.4.2")
    database = SimpleNamespace(instanceValue=lambda uid, tag: f"9.{uid}" if tag == "0020,0052" else "other")
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    origin = files.of(loaded).hand_over()[1]
    assert origin.dicom == {"study": "1.2.3", "series": "1.2.3.4", "frame_of_reference": "9.1.2.3.4.1"}


def test_the_panel_tells_the_child_which_scan_it_is(panel, child, loaded):
    panel.inputs.volume.setCurrentNode(loaded)
    panel.explain.estimate.click()
    assert turn(lambda: panel.task and not panel.task.running)
    told = child.task()
    assert told["arguments"][0] == told["scan"]["path"] == str(loaded.file)
    panel.explain.apply.click()
    assert turn(lambda: not panel.task.running)
    assert child.task()["command"] == "explain"
    assert panel.shown.in_scene.explanation.document["image"]["path"] == str(loaded.file)


def test_estimate_explanation_and_comparison_read_one_copy_which_goes_with_the_scene(panel, child, tmp_path):
    import slicer

    add_ct()
    read = []
    for button in (panel.explain.estimate, panel.explain.apply, panel.explain.compare):
        button.click()
        assert turn(lambda: not panel.task.running)
        read.append(child.task()["arguments"][0])
    assert len(set(read)) == 1
    assert Path(read[0]).is_file()
    slicer.mrmlScene.Clear(0)
    assert list((tmp_path / "tmp").iterdir()) == []
