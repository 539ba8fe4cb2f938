"""The module that Slicer discovers: its file, its logic without a window, and the real child process."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from Testing import bench
from Testing.bench import warm
from Testing.bench.fixtures import add_ct, add_findings, turn
from Testing.bench.small_explanation import SHAPE, scan

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "Agg2Exp" / "Agg2Exp.py"


@pytest.fixture
def logic(module, settings):
    found = module.Agg2ExpLogic()
    yield found
    found.stopAll()


def test_the_module_file_defines_what_slicer_looks_for():
    names = {node.name for node in ast.parse(MODULE.read_text()).body if isinstance(node, ast.ClassDef)}
    assert names == {"Agg2Exp", "Agg2ExpWidget", "Agg2ExpLogic", "Agg2ExpTest", "Agg2ExpParameterNode"}


def test_the_module_file_imports_only_slicer_and_the_library():
    imported = set()
    for node in ast.walk(ast.parse(MODULE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"Agg2ExpLib", "slicer"}


def test_slicer_shows_a_title_a_category_and_the_version(module):
    class Parent:
        path = str(MODULE)

    import Agg2ExpLib

    parent = Parent()
    module.Agg2Exp(parent)
    assert parent.title == "Agg2Exp"
    assert parent.categories == ["Segmentation"]
    assert Agg2ExpLib.__version__ in parent.helpText


@pytest.mark.skipif(
    bench.in_slicer, reason="starts a Python with the bench; Slicer itself has loaded the module this way"
)
def test_the_module_finds_the_library_in_a_checkout_from_slicers_own_path():
    # Only the module file's folder is on the path, as in Slicer; neither this checkout nor another one that is installed.
    program = f"""
import os, sys
sys.path[:] = [p for p in sys.path if p and not os.path.isdir(os.path.join(p, "Agg2ExpLib"))]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path.insert(0, {str(MODULE.parent)!r})
import importlib.util
spec = importlib.util.spec_from_file_location("bench", {str(ROOT / "Testing" / "bench" / "__init__.py")!r})
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
import types
testing = types.ModuleType("Testing"); testing.__path__ = [{str(ROOT / "Testing")!r}]
sys.modules["Testing"] = testing
bench.offer()
import slicer, Agg2Exp
import Agg2ExpLib
print(Agg2ExpLib.__file__)
"""
    surroundings = {key: value for key, value in os.environ.items() if key != bench.SOURCE}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd="/", env=surroundings
    )
    assert done.stdout.strip() == str(ROOT / "Agg2ExpLib" / "__init__.py"), done.stderr


def test_modules_own_tests_pass(module, settings):
    test = module.Agg2ExpTest()
    test.test_commandNamesExistingProgram()
    test.test_parameterNodeKeepsChoices()


def test_a_script_explains_in_one_call_and_gets_nodes(logic):
    events = []
    findings = add_findings(spot=scan() > 100)
    shown = logic.explain(add_ct(), structures=["heart", "aorta"], rois=findings, progressCallback=events.append)
    assert shown.segmentation_node.GetSegmentation().GetNumberOfSegments() == 2
    assert shown.table_node.GetNumberOfRows() == 3 * 5
    assert [event.done for event in events if event.total][-1] == 3
    rows = logic.importanceRows(shown)
    assert {"spot", "heart"} <= {row["roi"] for row in rows}
    assert sum(row["mass"] for row in rows if row["class"] == "heart" and row["roi"] != "spot") == pytest.approx(1.0)


def test_process_takes_the_segmentation_that_is_to_be_filled(logic):
    import slicer

    given = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    shown = logic.process(add_ct(), given)
    assert shown.segmentation_node is given


def test_a_script_may_go_on_while_the_work_runs(logic):
    done = []
    task = logic.explain(add_ct(), waitForCompletion=False, completedCallback=done.append)
    assert task.running
    assert turn(lambda: done)
    assert done[0].classes == ("heart", "aorta")


def test_a_script_is_told_what_went_wrong(logic, child):
    from Agg2ExpLib.errors import InputError

    with pytest.raises(InputError, match="at least one structure"):
        logic.explain(add_ct(), structures=[])
    child.does(refuse="the model has no class 'hart': did you mean heart?")
    with pytest.raises(RuntimeError, match="did you mean heart"):
        logic.explain(add_ct(), structures=["hart"])


def test_a_ct_without_voxels_is_refused_before_anything_is_written(logic, tmp_path):
    import slicer

    from Agg2ExpLib.errors import InputError

    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(InputError, match="empty has no voxels"):
        logic.explain(empty)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_script_asks_what_if_and_what_it_costs(logic):
    ct = add_ct()
    shown = logic.explain(ct)
    changes = logic.whatIf(shown, "heart", "air")
    assert [(one.structure, one.dice) for one in changes][:2] == [("heart", 0.0), ("aorta", 1.0)]
    assert logic.estimateCost(ct, samples=3)["windows"] == 8
    assert logic.checkEnvironment()["devices"][0]["id"] == "cpu"


def test_the_table_is_a_data_frame_where_pandas_is_and_a_sentence_where_it_is_not(logic, monkeypatch):
    from Agg2ExpLib.errors import InputError

    shown = logic.explain(add_ct())
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="importanceRows"):
        logic.importanceTable(shown)


def test_a_moved_ct_is_handed_over_where_it_is_shown(logic):
    import slicer
    import slicer.util

    from Agg2ExpLib.panel.nodes import volume_of

    ct = add_ct()
    moved = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (10, 20, 30)
    moved.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    ct.SetAndObserveTransformNodeID(moved.GetID())
    assert volume_of(ct).affine[:3, 3] == pytest.approx([10, 20, 30])
    assert volume_of(ct).shape == SHAPE


def test_a_segment_is_read_where_it_lies(bench_scene):
    from Agg2ExpLib.panel.nodes import segment_volume

    mask = np.zeros(SHAPE, dtype=bool)
    mask[4:9, 3:5, 10:12] = True
    node = add_findings(spot=mask)
    volume = segment_volume(node, "spot")
    places = volume.grid.index_to_world(np.argwhere(volume.voxels > 0))
    assert volume.voxels.sum() == mask.sum()
    assert places.min(axis=0) == pytest.approx(np.array([4, 3, 10]) * 3.0)
    assert segment_volume(node, "nobody") is None


def test_the_real_child_process_explains_a_ct_of_the_scene(logic, settings, tmp_path):
    model = write_small_model(tmp_path)
    settings.setValue("Agg2Exp/PythonExecutable", warm.program(tmp_path))
    spot = np.zeros(SHAPE, dtype=bool)
    spot[4:8, 4:8, 4:8] = True
    shown = logic.explain(add_ct(), str(model), method="gradient", rois=add_findings(spot=spot))
    table = shown.explanation.importance
    assert table.rois == ("background", "one", "two", "spot")
    assert table.matrix("voxels")[0, 3] == spot.sum()
    logic.stopAll()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_methods_are_compared_on_the_chosen_ct_by_the_real_child_process(panel, settings, tmp_path, monkeypatch):
    from Agg2ExpLib.panel.words import choices

    # The bench's CT has fewer voxels than a subset of the usual size.
    monkeypatch.setitem(choices.COMPARISON, "subset-voxels", 500)
    settings.setValue("Agg2Exp/PythonExecutable", warm.program(tmp_path))
    add_ct()
    panel.inputs.add_model(str(write_small_model(tmp_path)))
    panel.explain.structures.all.click()
    assert panel.explain.compare.isEnabled()
    panel.explain.compare.click()
    assert not panel.explain.compare.isEnabled()
    assert turn(lambda: not panel.task.running)
    assert panel.task.outcome.status == "done", panel.task.outcome
    assert panel.presenter.picture.isVisible()
    assert "| smoothgrad=5 |" in panel.log.content()
    assert panel.task.out.parent == tmp_path / "results"
    panel.close()
    assert list((tmp_path / "tmp").iterdir()) == []
    panel.presenter.picture.close()


def write_small_model(folder):
    """Write a model folder of a network that takes a moment; where there is no torch, as in a new Slicer, there is nothing to run."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")
    import torch
    from monai.networks.nets import UNet

    from Agg2ExpLib.models.bundle import write_model_folder
    from Agg2ExpLib.models.card import ModelCard

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    card = ModelCard(name="small", labels=("background", "one", "two"), spacing=(3.0, 3.0, 3.0), window=(16, 16, 16),
                     architecture={"name": "UNet", "arguments": arguments})  # fmt: skip
    return write_model_folder(folder / "small", UNet(**arguments).state_dict(), card)
