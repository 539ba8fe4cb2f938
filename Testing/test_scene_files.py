"""Scenes saved and loaded, and the commands that make them."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_explanations import SHAPE, bright_attribution, write_explanation
from test_walls import COMPUTING, SLICER, run_with_blocked

from Agg2ExpLib import scene
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.scene import opengl
from Agg2ExpLib.scene.export import write_all, write_scene
from Agg2ExpLib.scene.saving import load_scene
from Agg2ExpLib.scene.segments import explained_segments
from Agg2ExpLib.scene.volumes import affine_of, array_of

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'agg2exp[scene]'")
TESTING = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def explanation(tmp_path_factory):
    return write_explanation(tmp_path_factory.mktemp("case") / "explanation", "oblique")


@pytest.fixture(scope="module")
def saved(explanation, tmp_path_factory):
    return write_scene(explanation, tmp_path_factory.mktemp("saved") / "seen.mrb", name="heart")


@pytest.fixture(scope="module")
def loaded(saved):
    return load_scene(saved)


def written_scene(explanation):
    """Return what was saved, made once more to compare with."""
    from Agg2ExpLib.scene.arrange import arrange

    shown = scene.show_explanation(explanation, scene.new_scene())
    arrange(shown, "heart")
    return shown


def attributes_of(scene_):
    found = {}
    for index in range(scene_.GetNumberOfNodes()):
        node = scene_.GetNthNode(index)
        told = {name: node.GetAttribute(name) for name in node.GetAttributeNames() if name.startswith("Agg2Exp.")}
        if told:
            key = (node.GetClassName(), told["Agg2Exp.Role"], told.get("Agg2Exp.Class"), told.get("Agg2Exp.Mode"),
                   told.get("Agg2Exp.Measure"), told.get("Agg2Exp.Structure"), told.get("Agg2Exp.Rank"))  # fmt: skip
            assert key not in found
            found[key] = told
    return found


def test_a_loaded_scene_has_every_node_attribute_by_attribute(explanation, loaded):
    before, after = attributes_of(written_scene(explanation).scene), attributes_of(loaded)
    assert set(after) == set(before)
    assert len(after) > 20
    for key, told in before.items():
        assert after[key] == told, key


def test_what_the_loaded_nodes_hold_is_what_was_saved(explanation, loaded):
    shown = scene.find(loaded, explanation)
    for name, expected in (("magnitude", bright_attribution()), ("signed", bright_attribution())):
        node = shown.overlay_node("heart", name)
        np.testing.assert_allclose(array_of(node), expected)
        np.testing.assert_allclose(affine_of(node), explanation.attribution("heart").affine, atol=1e-4)
        colours = node.GetDisplayNode().GetColorNode().GetLookupTable()
        assert colours.GetTableValue(0 if name == "magnitude" else 127)[3] == 0.0
        assert colours.GetTableValue(colours.GetNumberOfTableValues() - 1)[3] == pytest.approx(1.0)
    fresh = written_scene(explanation)
    segments = dict(explained_segments(shown.segmentation_node, shown.key))
    for name, segment in explained_segments(fresh.segmentation_node, fresh.key):
        assert segments[name].GetName() == segment.GetName()
        assert segments[name].GetTerminology() == segment.GetTerminology()
        np.testing.assert_allclose(segments[name].GetColor(), segment.GetColor(), atol=1e-4)
    table = scene.table_from_node(shown.table_node)
    np.testing.assert_allclose(table.values["enrichment"], explanation.importance.values["enrichment"], rtol=1e-5)
    labels = shown.keeper.find("vtkMRMLMarkupsFiducialNode", "graph-labels")
    assert labels.GetNthControlPointLabel(0) == "heart"
    rendering = shown.keeper.find("vtkMRMLVolumePropertyNode", "volume-property")
    assert rendering.GetScalarOpacity().GetSize() > 4
    surface = shown.keeper.find("vtkMRMLModelNode", "surface", Structure="heart")
    assert surface.GetPolyData().GetPointData().GetScalars().GetRange()[1] > 0


def test_a_loaded_scene_knows_its_explanations_without_their_folders(explanation, loaded):
    (found,) = scene.saved_in(loaded)
    assert found.attributes["Method"] == "smoothgrad"
    assert found.folder == explanation.folder.resolve()
    for node in (found.ct_node, found.segmentation_node, found.regions_node, found.table_node):
        assert node is not None
    assert array_of(found.ct_node).shape == SHAPE


def test_showing_the_explanation_in_the_loaded_scene_adds_nothing(explanation, saved):
    again = load_scene(saved)
    before = set(attributes_of(again))
    shown = scene.show_explanation(explanation, again)
    shown.show_overlay("heart")
    shown.show_graph("heart")
    assert set(attributes_of(again)) == before


def test_the_scene_opens_at_the_strongest_point_with_overlay_table_and_chart(explanation, loaded):
    shown = scene.find(loaded, explanation)
    position = np.array(shown.strongest_position("heart"))
    orientations = set()
    for index in range(3):
        node = loaded.GetNthNodeByClass(index, "vtkMRMLSliceNode")
        matrix = node.GetSliceToRAS()
        origin, normal = (np.array([matrix.GetElement(row, column) for row in range(3)]) for column in (3, 2))
        assert abs(normal @ (position - origin)) < 1e-3
        orientations.add(node.GetOrientation())
        composite = loaded.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        assert composite.GetForegroundVolumeID() == shown.overlay_node("heart").GetID()
        assert composite.GetBackgroundVolumeID() == shown.ct_node.GetID()
        assert 0.3 < composite.GetForegroundOpacity() < 1
    assert orientations == {"Axial", "Coronal", "Sagittal"}
    import slicer

    layout = loaded.GetNthNodeByClass(0, "vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpPlotTableView
    assert loaded.GetNthNodeByClass(0, "vtkMRMLTableViewNode").GetTableNode() is shown.table_node
    chart = loaded.GetNthNodeByClass(0, "vtkMRMLPlotViewNode").GetPlotChartNode()
    assert chart.GetAttribute("Agg2Exp.Class") == "heart"


def test_the_command_writes_a_scene_and_refuses_to_replace_it(explanation, tmp_path, capsys):
    out = tmp_path / "s.mrb"
    arguments = ["scene", str(explanation.folder), "--out", str(out), "--progress", "none"]
    assert main(arguments) == 0
    assert zipfile.is_zipfile(out)
    assert [path.name for path in tmp_path.iterdir()] == ["s.mrb"]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--class", "lung_lower_lobe_left"]) == 0


@pytest.mark.parametrize(
    ("out", "sentence"), [("s.zip", "end the name in .mrb"), ("missing/s.mrb", "does not exist; create it first")]
)
def test_an_impossible_place_for_a_scene_is_refused_before_the_work(explanation, tmp_path, out, sentence, capsys):
    assert main(["scene", str(explanation.folder), "--out", str(tmp_path / out), "--progress", "none"]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def broken(folder, how):
    """Return a folder that is no explanation, half of one, newer, without settings, or with an unknown class asked for."""
    if how == "nothing":
        folder.mkdir()
        (folder / "notes.txt").write_text("not an explanation")
        return folder
    write_explanation(folder)
    document = json.loads((folder / "explanation.json").read_text())
    if how == "half":
        (folder / "attributions" / "heart.nii.gz").unlink()
    elif how == "newer":
        document["format_version"] = 99
    elif how == "unsaid":
        del document["settings"]["method"]
    elif how == "cut short":
        (folder / "importance_long.csv").write_text("class,roi,mass\n")
    elif how == "torn":
        path = folder / "attributions" / "heart.nii.gz"
        path.write_bytes(path.read_bytes()[:200])
    (folder / "explanation.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("command", ["scene", "render"])
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("nothing", "is not an Explanation folder"),
        ("half", "is incomplete"),
        ("newer", "format version 99"),
        ("unsaid", "lacks 'settings.method'"),
        ("cut short", "does not have the columns"),
        ("torn", "heart.nii.gz"),
    ],
)
def test_bad_folders_get_one_sentence_and_leave_nothing(command, how, sentence, tmp_path, capsys):
    if command == "render" and opengl.why_not_drawn():
        pytest.skip(opengl.why_not_drawn())
    folder = broken(tmp_path / "e", how)
    out = tmp_path / "out" if command == "render" else tmp_path / "out.mrb"
    options = ["--class", "heart"] if how == "torn" else []
    assert main([command, str(folder), "--out", str(out), "--progress", "none", *options]) == 2
    told = capsys.readouterr().err.strip()
    assert sentence in told
    assert "\n" not in told
    assert not out.is_file()
    assert not list(tmp_path.rglob("*.png"))


def test_an_explanation_in_which_every_class_is_absent_is_a_scene_of_ct_and_segments(tmp_path):
    found = write_explanation(tmp_path / "e", attributions={})
    loaded = load_scene(write_scene(found, tmp_path / "s.mrb"))
    shown = scene.find(loaded, found)
    assert shown.classes == ()
    assert len(explained_segments(shown.segmentation_node, shown.key)) == 4


def test_a_prediction_of_nothing_but_background_is_a_scene_too(tmp_path):
    found = write_explanation(tmp_path / "e", attributions={}, labels=("background",), regions=False)
    (tmp_path / "e-ct.nii.gz").unlink()
    loaded = load_scene(write_scene(found, tmp_path / "s.mrb"))
    shown = scene.find(loaded, found)
    assert shown.segmentation_node.GetSegmentation().GetNumberOfSegments() == 0
    assert array_of(shown.ct_node).shape == SHAPE


def test_a_loaded_segmentation_has_its_surfaces_for_the_3d_view(loaded, explanation):
    shown = scene.find(loaded, explanation)
    for _, segment in explained_segments(shown.segmentation_node, shown.key):
        shown.segmentation_node.CreateClosedSurfaceRepresentation()
        assert segment.GetRepresentation("Closed surface").GetNumberOfPoints() > 0
    assert shown.segmentation_node.GetDisplayNode().GetVisibility3D()


@pytest.mark.parametrize("content", [b"no zip", b""])
def test_a_file_that_is_no_scene_is_refused(tmp_path, content):
    path = tmp_path / "bad.mrb"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a Slicer data bundle"):
        load_scene(path)


def test_a_bundle_that_claims_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.mrb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("s/s.mrml", b"\0" * 30_000_000)
    with pytest.raises(InputError, match="far more than its size allows"):
        load_scene(path)


@pytest.fixture
def unasked():
    """Forget what was found out about drawing, before and after a test that pretends."""
    opengl.why_not_drawn.cache_clear()
    yield
    opengl.why_not_drawn.cache_clear()


@pytest.mark.parametrize(("what", "cause"), [("_loads", "an OpenGL library"), ("_draws", "an OpenGL driver")])
def test_without_opengl_all_but_the_pictures_is_made_and_a_sentence_names_the_package(
    what, cause, explanation, tmp_path, monkeypatch, unasked
):
    monkeypatch.setattr(opengl, what, lambda *name: False)
    monkeypatch.setattr(sys, "platform", "linux")
    told = write_all(explanation, tmp_path)
    assert (tmp_path / "scene.mrb").is_file()
    assert not (tmp_path / "pictures").exists()
    assert "apt-get install libegl1" in told
    with pytest.raises(InputError, match=f"{cause}.*libegl1"):
        from Agg2ExpLib.scene.render import render_explanation

        render_explanation(explanation, tmp_path / "pictures")


def test_a_driver_that_ends_the_process_is_noticed_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(opengl, "_PROBE", "import os; os.abort()")
    assert not opengl._draws()


def test_a_full_or_forbidden_folder_is_an_output_error(explanation, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.mkdir", refuse)
    with pytest.raises(OutputError, match="Permission denied; choose another"):
        write_scene(explanation, tmp_path / "s.mrb")


def in_blocked_process(packages, program):
    return run_with_blocked(packages, f"sys.path.insert(0, {str(TESTING)!r})\n{program}")


def test_the_scene_half_runs_without_torch_monai_captum_shap_and_qt(tmp_path):
    program = f"""
from pathlib import Path
from small_explanations import write_explanation
from Agg2ExpLib.scene.export import write_scene
import Agg2ExpLib.scene.render
print(write_scene(write_explanation(Path({str(tmp_path)!r}) / "e"), Path({str(tmp_path)!r}) / "s.mrb"))
assert not {{"torch", "monai", "qt", "PySide6"}} & set(sys.modules)
"""
    done = in_blocked_process((*COMPUTING, "qt", "ctk", "PythonQt", "PySide6"), program)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.mrb").is_file()


def test_the_computing_half_runs_without_slicer_vtk_and_qt(tmp_path):
    program = f"""
import numpy as np
from pathlib import Path
from small_networks import GreyLevels
from Agg2ExpLib.explanation import explain
from Agg2ExpLib.request import request_of
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.model import SegmentationModel
from Agg2ExpLib.volume import Grid, Volume
hu = np.full((16, 16, 16), -900, np.float32)
hu[4:9, 4:9, 4:9] = 900
card = ModelCard(name="levels", labels=("background", "bright", "mid", "never"), window=(16, 16, 16), spacing=None)
model = SegmentationModel(card, GreyLevels().eval(), "0" * 64, Path("levels"))
found = explain(Volume(hu, Grid(hu.shape, np.eye(4))), model, {str(tmp_path / "out")!r}, request_of(method="gradient", device="cpu"))
print(found.explained)
"""
    done = in_blocked_process((*SLICER, "vtkmodules", "slicer_core", "trame_slicer", "trame"), program)
    assert done.returncode == 0, done.stderr
    assert "bright" in done.stdout


def test_the_commands_without_slicer_core_say_what_to_install(explanation, tmp_path):
    guard = f"""
import importlib.util as finding
find = finding.find_spec
finding.find_spec = lambda name, *rest: None if name in {SLICER!r} else find(name, *rest)
from Agg2ExpLib.cli import main
"""
    for command, out in (("scene", "s.mrb"), ("render", "pictures")):
        arguments = [command, str(explanation.folder), "--out", str(tmp_path / out)]
        done = run_with_blocked(SLICER, f"{guard}\nsys.exit(main({arguments!r}))")
        assert done.returncode == 2, done.stderr
        assert "pip install 'agg2exp[scene]'" in done.stderr


def test_importing_the_scene_half_alone_loads_neither_slicer_nor_vtk():
    program = """
import Agg2ExpLib.scene, Agg2ExpLib.scene.render, Agg2ExpLib.scene.export, sys
print('slicer' in sys.modules, 'vtkmodules' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_folder_is_only_read(explanation, saved):
    assert Explanation.load(explanation.folder).explained == explanation.explained
    assert not list(explanation.folder.rglob("*.mrb"))


def test_a_relative_name_is_written_where_it_points(explanation, tmp_path, monkeypatch):
    from Agg2ExpLib.scene.export import write_scene

    monkeypatch.chdir(tmp_path)
    (tmp_path / "below").mkdir()
    write_scene(explanation, Path("below/case.mrb"))
    assert [file.name for file in (tmp_path / "below").iterdir()] == ["case.mrb"]
