"""An explanation as nodes of a scene of the real slicer-core."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_explanations import BOXES, BRIGHT, LABELS, SHAPE, affine, bright_attribution, rotation, write_explanation

from Agg2ExpLib import scene
from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.scene.segments import explained_segments
from Agg2ExpLib.scene.volumes import affine_of, array_of, fill_volume_node
from Agg2ExpLib.volume import Grid, Volume

pytest.importorskip("slicer", reason="slicer-core is not installed: pip install 'agg2exp[scene]'")
KINDS = ("plain", "flipped", "left-handed", "swapped", "oblique")


@pytest.fixture
def explanation(tmp_path):
    return write_explanation(tmp_path / "explanation")


@pytest.fixture
def shown(explanation):
    return scene.show_explanation(explanation, scene.new_scene())


def names_of_nodes(scene_):
    return sorted(scene_.GetNthNode(index).GetName() for index in range(scene_.GetNumberOfNodes()))


def show_everything(shown):
    shown.show_overlay("heart", "signed")
    shown.show_overlay("heart", "magnitude")
    shown.colour_segments("heart", "enrichment")
    shown.show_chart("heart", "mass")
    shown.show_surface("heart", ["heart", "lung_lower_lobe_left"])
    shown.show_volume_rendering("heart")
    shown.show_graph("heart")
    shown.go_to_strongest("heart")


def segment_of(shown, name, node=None):
    return dict(explained_segments(node or shown.segmentation_node, shown.key))[name]


def mask_in_ras(shown, name, points):
    """Tell for RAS points whether they lie in a segment, by the segment's own geometry."""
    import vtkmodules.util.numpy_support as numpy_support
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    image = segment_of(shown, name).GetRepresentation("Binary labelmap")
    matrix = vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_world = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    start = np.array(image.GetExtent()[::2])
    i, j, k = image.GetDimensions()
    voxels = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i).transpose(2, 1, 0)
    at = np.rint((points - to_world[:3, 3]) @ np.linalg.inv(to_world[:3, :3]).T).astype(int) - start
    inside = ((at >= 0) & (at < voxels.shape)).all(axis=1)
    found = np.zeros(len(points), bool)
    found[inside] = voxels[tuple(at[inside].T)] == segment_of(shown, name).GetLabelValue()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_ct_and_overlay_lie_where_the_scan_lies(kind, tmp_path):
    shown = scene.show_explanation(write_explanation(tmp_path / "e", kind), scene.new_scene())
    overlay = shown.show_overlay("heart", percentile=0)
    for node in (shown.ct_node, overlay):
        np.testing.assert_allclose(affine_of(node), affine(kind), atol=1e-5)
        assert array_of(node).shape == SHAPE
    np.testing.assert_allclose(array_of(overlay), bright_attribution())
    expected = Grid(SHAPE, affine(kind)).index_to_world(BRIGHT)
    np.testing.assert_allclose(shown.strongest_position("heart"), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_lie_where_the_prediction_lies(kind, tmp_path):
    shown = scene.show_explanation(write_explanation(tmp_path / "e", kind), scene.new_scene())
    truth = np.zeros(SHAPE, int)
    for value, box in BOXES.items():
        truth[box] = value
    index = np.argwhere(np.ones(SHAPE, bool))
    points = Grid(SHAPE, affine(kind)).index_to_world(index)
    for value in BOXES:
        np.testing.assert_array_equal(mask_in_ras(shown, LABELS[value], points), truth[tuple(index.T)] == value)


@pytest.mark.parametrize("kind", KINDS)
def test_surfaces_enclose_their_structure_and_carry_the_attribution_sampled_there(kind, tmp_path):
    from vtkmodules.util.numpy_support import vtk_to_numpy

    ramp = np.broadcast_to(np.arange(SHAPE[0], dtype=np.float32)[:, None, None], SHAPE).copy()
    found = write_explanation(tmp_path / "e", kind, attributions={"heart": ramp})
    shown = scene.show_explanation(found, scene.new_scene())
    (node,) = shown.show_surface("heart", ["heart"])
    points = vtk_to_numpy(node.GetPolyData().GetPoints().GetData()).astype(float)
    index = Grid(SHAPE, affine(kind)).world_to_index(points)
    low, high = (np.array([getattr(part, end) for part in BOXES[1]]) for end in ("start", "stop"))
    assert (index > low - 1.5).all()
    assert (index < high + 0.5).all()
    values = vtk_to_numpy(node.GetPolyData().GetPointData().GetScalars())
    # Blurring keeps a ramp a ramp away from its ends.
    np.testing.assert_allclose(values, index[:, 0], atol=0.05)
    assert node.GetDisplayNode().GetScalarVisibility()


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    at=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)),
)
def test_any_voxel_of_any_grid_keeps_its_place_in_a_volume_node(angles, spacing, flips, at):
    scene_ = scene.new_scene()
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(*angles) * np.array(spacing) * np.array(flips)
    matrix[:3, 3] = [12.5, -80.0, 3.0]
    voxels = np.zeros((5, 6, 7), np.float32)
    voxels[at] = 1.0
    grid = Grid(voxels.shape, matrix)
    node = scene_.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    fill_volume_node(node, Volume(voxels, grid))
    point = np.append(grid.index_to_world(at), 1.0)
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    to_index = vtkMatrix4x4()
    node.GetRASToIJKMatrix(to_index)
    i, j, k = (round(value) for value in to_index.MultiplyPoint(point)[:3])
    assert node.GetImageData().GetScalarComponentAsDouble(i, j, k, 0) == 1.0


def test_segments_have_full_names_colours_and_snomed_codes(shown):
    for name in LABELS[1:5]:
        segment, known = segment_of(shown, name), structure(name)
        assert segment.GetName() == known.name
        np.testing.assert_allclose(np.array(segment.GetColor()) * 255, known.colour, atol=0.6)
        assert f"SCT^{known.snomed}^" in segment.GetTerminology()
    assert "SCT^7771000^Left" in segment_of(shown, "autochthon_left").GetTerminology()
    assert "24028007" not in segment_of(shown, "autochthon_left").GetTerminology()
    assert "Morphologically Altered" in segment_of(shown, "nodule", shown.regions_node).GetTerminology()


def test_slicer_reads_the_terminology_entry_back(shown):
    import slicer

    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.DeserializeTerminologyEntry(segment_of(shown, "autochthon_left").GetTerminology(), entry)
    assert entry.GetTypeObject().GetCodeValue() == structure("autochthon_left").snomed
    assert entry.GetTypeModifierObject().GetCodeMeaning() == "Left"


def test_a_class_that_the_prediction_lacks_has_no_segment(shown):
    assert "spleen_of_nobody" not in dict(explained_segments(shown.segmentation_node, shown.key))


def test_volumes_say_their_units(shown):
    assert shown.ct_node.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    overlay = shown.show_overlay("heart")
    assert overlay.GetAttribute("Agg2Exp.Units") == "logit per unit of network input"
    assert overlay.GetVoxelValueUnits().GetCodeMeaning() == "logit per unit of network input"


def test_every_node_tells_where_it_comes_from(shown, explanation):
    show_everything(shown)
    mine = [
        node
        for node in (shown.scene.GetNthNode(index) for index in range(shown.scene.GetNumberOfNodes()))
        if node.GetAttribute("Agg2Exp.Role")
    ]
    assert len(mine) > 15
    for node in mine:
        told = {key: node.GetAttribute(f"Agg2Exp.{key}") for key in ("Method", "Samples", "Seed", "ModelSHA256")}
        assert told == {"Method": "smoothgrad", "Samples": "7", "Seed": "3", "ModelSHA256": "5" * 64}, node.GetName()
        assert node.GetAttribute("Agg2Exp.ImageSHA256") == explanation.document["image"]["sha256"]
        assert json.loads(node.GetAttribute("Agg2Exp.Versions"))["torch"] == "2.13.0"
        assert node.GetAttribute("Agg2Exp.Explanation") == shown.key


def test_showing_again_adds_nothing_even_when_nodes_were_renamed(shown, explanation):
    show_everything(shown)
    shown.segmentation_node.SetName("my own name")
    shown.overlay_node("heart").SetName("another")
    before = names_of_nodes(shown.scene)
    again = scene.show_explanation(explanation, shown.scene)
    show_everything(again)
    assert names_of_nodes(shown.scene) == before
    assert again.segmentation_node.GetSegmentation().GetNumberOfSegments() == 4


def test_showing_again_mends_what_somebody_removed_or_changed(shown, explanation):
    overlay = shown.show_overlay("heart")
    array_of(overlay)[:] = 7
    shown.scene.RemoveNode(shown.table_node)
    shown.segmentation_node.GetSegmentation().RemoveSegment(
        shown.segmentation_node.GetSegmentation().GetSegmentIdBySegment(segment_of(shown, "ribs"))
    )
    again = scene.show_explanation(explanation, shown.scene)
    again.show_overlay("heart")
    np.testing.assert_allclose(array_of(overlay), bright_attribution())
    assert again.table_node.GetTable().GetNumberOfRows() == 3 * 7
    assert segment_of(again, "ribs").GetName() == "ribs"


def test_a_folder_that_was_moved_is_the_same_explanation(shown, explanation, tmp_path):
    shutil.move(explanation.folder, tmp_path / "elsewhere")
    moved = Explanation.load(tmp_path / "elsewhere")
    assert scene.find(shown.scene, moved).segmentation_node is shown.segmentation_node


def test_another_method_on_the_same_scan_has_nodes_of_its_own_and_shares_the_ct(shown, tmp_path):
    other = write_explanation(tmp_path / "explanation2", settings={"method": "gradient", "samples": None, "seed": 0})
    assert scene.find(shown.scene, other) is None
    second = scene.show_explanation(other, shown.scene)
    assert second.key != shown.key
    assert second.segmentation_node is not shown.segmentation_node
    assert second.ct_node is shown.ct_node
    assert len(scene.saved_in(shown.scene)) == 2


def test_a_given_ct_and_segmentation_are_used_and_others_segments_stay(explanation):
    scene_ = scene.new_scene()
    ct = scene_.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    fill_volume_node(ct, explanation.model_image())
    given = scene_.AddNewNodeByClass("vtkMRMLSegmentationNode")
    given.CreateDefaultDisplayNodes()
    given.GetSegmentation().AddEmptySegment("heart", "my heart")
    shown = scene.show_explanation(explanation, scene_, ct_node=ct, segmentation_node=given)
    assert (shown.ct_node, shown.segmentation_node) == (ct, given)
    assert given.GetSegmentation().GetSegment("heart").GetName() == "my heart"
    assert given.GetSegmentation().GetNumberOfSegments() == 5
    assert given.GetNodeReferenceID(given.GetReferenceImageGeometryReferenceRole()) == ct.GetID()
    assert ct.GetAttribute("Agg2Exp.Role") is None


def test_a_moved_ct_moves_everything_with_it(explanation):
    scene_ = scene.new_scene()
    ct = scene_.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    fill_volume_node(ct, explanation.model_image())
    move = scene_.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    move.SetMatrixTransformToParent(matrix)
    ct.SetAndObserveTransformNodeID(move.GetID())
    shown = scene.show_explanation(explanation, scene_, ct_node=ct)
    nodes = [shown.segmentation_node, shown.regions_node, shown.show_overlay("heart")]
    nodes += [*shown.show_surface("heart"), *shown.show_graph("heart")]
    assert {node.GetTransformNodeID() for node in nodes} == {move.GetID()}
    expected = Grid(SHAPE, affine()).index_to_world(BRIGHT) + np.array([100, 0, 0])
    np.testing.assert_allclose(shown.strongest_position("heart"), expected, atol=1e-4)


def test_without_the_scan_the_explanations_own_copy_is_shown(tmp_path):
    shown = scene.show_explanation(write_explanation(tmp_path / "e", keep_ct=False), scene.new_scene())
    assert shown.ct_node.GetAttribute("Agg2Exp.CTSource") == "model grid"
    assert array_of(shown.ct_node).shape == SHAPE


def test_a_scan_that_changed_since_is_not_shown_as_the_one_explained(explanation, tmp_path):
    (tmp_path / "explanation-ct.nii.gz").write_bytes(b"another file")
    shown = scene.show_explanation(explanation, scene.new_scene())
    assert shown.ct_node.GetAttribute("Agg2Exp.CTSource") == "model grid"


def test_the_magnitude_overlay_is_clear_where_weak_and_opaque_where_strong(shown):
    node = shown.show_overlay("heart", percentile=99)
    display = node.GetDisplayNode()
    table = display.GetColorNode().GetLookupTable()
    alphas = [table.GetTableValue(index)[3] for index in range(table.GetNumberOfTableValues())]
    assert (alphas[0], alphas[-1]) == (0.0, 1.0)
    assert alphas == sorted(alphas)
    assert not display.GetAutoWindowLevel()
    assert display.GetWindowLevelMin() == 0.0
    assert display.GetWindowLevelMax() == pytest.approx(0.9, abs=0.11)


def test_the_signed_overlay_is_symmetric_around_a_clear_zero(shown):
    display = shown.show_overlay("lung_lower_lobe_left", "signed", percentile=50).GetDisplayNode()
    assert display.GetLevel() == 0.0
    table = display.GetColorNode().GetLookupTable()
    alphas = np.array([table.GetTableValue(index)[3] for index in range(table.GetNumberOfTableValues())])
    np.testing.assert_allclose(alphas, alphas[::-1])
    assert alphas[len(alphas) // 2] == 0.0
    against, favour = (table.GetTableValue(index)[:3] for index in (30, len(alphas) - 31))
    assert against[2] > against[0]
    assert favour[0] > favour[2]


def test_a_masked_overlay_is_empty_outside_of_the_chosen_segments(shown):
    node = shown.show_overlay("heart", masked_segments=["heart", "nodule"])
    there = array_of(node) != 0
    expected = np.zeros(SHAPE, bool)
    expected[BOXES[1]] = True
    expected[16:20, 5:9, 9:13] = True
    np.testing.assert_array_equal(there, expected)
    assert node.GetAttribute("Agg2Exp.Mask") == "heart,nodule"
    shown.show_overlay("heart")
    assert (array_of(node) != 0).all()


def test_one_overlay_and_one_legend_are_on_at_a_time(shown):
    import slicer

    from Agg2ExpLib.scene.views import add_missing_views

    add_missing_views(shown.scene)
    first = shown.show_overlay("heart")
    second = shown.show_overlay("lung_lower_lobe_left", "signed", opacity=0.4)
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode
    assert not legend(first.GetDisplayNode()).GetVisibility()
    assert legend(second.GetDisplayNode()).GetVisibility()
    composite = shown.scene.GetNthNodeByClass(0, "vtkMRMLSliceCompositeNode")
    assert composite.GetForegroundVolumeID() == second.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.4)
    shown.show_overlay(None, "off")
    assert composite.GetForegroundVolumeID() is None
    assert composite.GetBackgroundVolumeID() == shown.ct_node.GetID()


def test_segments_coloured_by_importance_have_a_legend_and_get_their_colours_back(shown):
    top = shown.colour_segments("heart", "enrichment")
    brightest = segment_of(shown, "nodule", shown.regions_node).GetColor()
    assert brightest == pytest.approx((0.995, 0.909, 0.218), abs=0.01)
    legend = shown.keeper.find("vtkMRMLModelNode", "importance-legend")
    assert legend.GetDisplayNode().GetScalarRange() == pytest.approx((0.0, top))
    shown.colour_segments(None)
    np.testing.assert_allclose(
        np.array(segment_of(shown, "heart").GetColor()) * 255, structure("heart").colour, atol=0.6
    )
    assert not legend.GetDisplayNode().GetVisibility()


def test_the_table_node_holds_every_measure_and_reads_back(shown, explanation):
    table = scene.table_from_node(shown.table_node)
    assert (table.classes, table.rois) == (explanation.importance.classes, explanation.importance.rois)
    for measure, values in explanation.importance.values.items():
        np.testing.assert_allclose(table.values[measure], values, rtol=1e-6)
    titles = [shown.table_node.GetTable().GetColumnName(index) for index in range(10)]
    assert titles[:6] == ["Class", "Region", "Class id", "Region id", "Share", "Enrichment"]


def loaded_from(scene_, path, centred=False):
    """Load a file as a user does, with Slicer's own reader."""
    node = scene_.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "loaded")
    storage = scene_.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    storage.SetCenterImage(centred)
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.ReadData(node)
    return node


def test_a_scan_that_is_loaded_already_is_used_unless_it_was_changed(explanation):
    path = explanation.document["image"]["path"]
    for change, same in (("", True), ("voxels", False), ("place", False)):
        scene_ = scene.new_scene()
        node = loaded_from(scene_, path, centred=change == "place")
        if change == "voxels":
            node.StorableModified()
        assert bool(node.GetModifiedSinceRead()) is (change == "voxels")
        shown = scene.show_explanation(explanation, scene_)
        assert (shown.ct_node.GetID() == node.GetID()) is same


def test_structures_are_outlines_until_their_colour_is_the_message(shown):
    display = shown.segmentation_node.GetDisplayNode()
    assert not display.GetVisibility2DFill()
    assert display.GetVisibility2DOutline()
    shown.colour_segments("heart")
    assert display.GetVisibility2DFill()
    shown.colour_segments(None)
    assert not display.GetVisibility2DFill()
    display.SetVisibility2DFill(True)
    shown.colour_segments(None)
    assert display.GetVisibility2DFill(), "whoever fills them by hand wants them so"


def test_a_chart_names_its_regions_strongest_first_in_their_colours(shown):
    chart = shown.show_chart("heart", "mass")
    series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    table = series[0].GetTableNode().GetTable()
    values = [table.GetValueByName(1, one.GetYColumnName()).ToDouble() for one in series]
    ranks = [table.GetValueByName(1, one.GetXColumnName()).ToDouble() for one in series]
    row = dict(zip(shown.explanation.importance.rois, shown.explanation.importance.matrix("mass")[0], strict=True))
    best = sorted((name for name in row if name != "background" and row[name] > 0), key=lambda name: -row[name])[:8]
    assert [one.GetName() for one in series] == [f"{rank}  {structure(name).name}" for rank, name in enumerate(best, 1)]
    assert ranks == list(range(1, len(best) + 1)), "the numbers under the bars are those of the legend"
    assert chart.GetXAxisRange() == pytest.approx((0.4, len(best) + 0.6)), "no half of the plot is empty"
    np.testing.assert_allclose(values, [row[name] for name in best])
    for one, name in zip(series, best, strict=True):
        assert np.array(one.GetColor()) * 255 == pytest.approx(structure(name).colour, abs=0.6)
    assert chart.GetLegendVisibility()
    before = shown.scene.GetNumberOfNodes()
    assert shown.show_chart("heart", "mass").GetID() == chart.GetID()
    assert shown.scene.GetNumberOfNodes() == before


def test_the_graph_goes_from_the_sources_centres_to_the_explained_one(shown):
    tubes, _, labels = shown.show_graph("heart", count=2)
    sources = dict(part.split("=") for part in tubes.GetAttribute("Agg2Exp.Sources").split(";"))
    assert "heart" not in sources
    assert "background" not in sources
    assert len(sources) == 2
    row = dict(zip(shown.explanation.importance.rois, shown.explanation.importance.matrix("mass")[0], strict=True))
    for source, value in sources.items():
        assert float(value) == pytest.approx(row[source])
    assert labels.GetNumberOfControlPoints() == 3
    expected = Grid(SHAPE, affine()).index_to_world([7, 8, 6])
    np.testing.assert_allclose(labels.GetNthControlPointPosition(0), expected, atol=2.6)


def test_legends_in_3d_have_titles_and_places_of_their_own(shown):
    import slicer

    shown.colour_segments("heart")
    tubes, *_others = shown.show_graph("heart")
    shown.show_volume_rendering("heart")
    carriers = [shown.keeper.find("vtkMRMLModelNode", role) for role in ("importance-legend", "volume-legend")]
    legends = [
        slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node.GetDisplayNode()) for node in (tubes, *carriers)
    ]
    assert all(one.GetVisibility() and one.GetVisibility3D() for one in legends)
    assert len({one.GetTitleText() for one in legends}) == 3
    assert len({tuple(one.GetPosition()) for one in legends}) == 3


def test_a_centre_lies_within_its_structure_even_when_that_is_a_ring():
    from Agg2ExpLib.scene.graph import centre_of

    ring = np.zeros((21, 21, 5), bool)
    x, y = np.mgrid[-10:11, -10:11]
    ring[(np.hypot(x, y) > 8) & (np.hypot(x, y) < 10)] = True
    at = centre_of(ring, Grid(ring.shape, np.eye(4)))
    assert ring[tuple(np.rint(at).astype(int))]
    assert centre_of(np.zeros_like(ring), Grid(ring.shape, np.eye(4))) is None


def test_the_volume_rendering_begins_at_its_threshold(shown):
    display = shown.show_volume_rendering("heart", percentile=90, opacity=0.4)
    opacity = display.GetVolumePropertyNode().GetScalarOpacity()
    assert opacity.GetValue(0.0) == 0.0
    assert opacity.GetValue(10.0) == pytest.approx(0.4)
    assert display.GetVisibility()
    shown.show_volume_rendering("heart", visible=False)
    assert not display.GetVisibility()


def test_hiding_surfaces_and_graph_keeps_their_nodes(shown):
    nodes = [*shown.show_surface("heart"), *shown.show_graph("heart")]
    shown.show_surface("heart", visible=False)
    shown.show_graph(None, visible=False)
    assert not any(node.GetDisplayVisibility() for node in nodes)
    assert all(node.GetScene() is not None for node in nodes)


def test_everything_lies_in_one_folder_beside_the_ct(shown):
    import slicer

    show_everything(shown)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(shown.scene)
    folder = shown.file_away()
    assert hierarchy.GetItemParent(folder) == hierarchy.GetItemParent(hierarchy.GetItemByDataNode(shown.ct_node))
    for node in (shown.segmentation_node, shown.table_node, shown.overlay_node("heart")):
        place = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
        assert folder in (place, hierarchy.GetItemParent(place)), node.GetName()
    assert shown.file_away() == folder


def test_removing_an_explanation_leaves_the_ct_alone(shown):
    ct = shown.ct_node
    show_everything(shown)
    shown.remove()
    left = [shown.scene.GetNthNode(i) for i in range(shown.scene.GetNumberOfNodes())]
    assert [node for node in left if node.GetAttribute("Agg2Exp.Role")] == [ct]
    assert scene.saved_in(shown.scene) == []


def test_an_unknown_class_gets_a_sentence_with_a_suggestion(shown):
    for show in (shown.show_overlay, shown.show_surface, shown.show_graph, shown.show_chart, shown.colour_segments):
        with pytest.raises(InputError, match="did you mean heart"):
            show("hart")
    with pytest.raises(InputError, match="no segment 'moon'"):
        shown.show_overlay("heart", masked_segments=["moon"])
    with pytest.raises(InputError, match="cannot be shown by 'voxels'"):
        shown.colour_segments("heart", "voxels")
    with pytest.raises(InputError, match="percentile"):
        shown.show_overlay("heart", percentile=101)


def test_an_absent_class_with_a_row_of_nan_is_refused_by_name_and_harms_nothing(shown):
    with pytest.raises(InputError, match="spleen_of_nobody"):
        shown.show_overlay("spleen_of_nobody")
    table = scene.table_from_node(shown.table_node)
    assert np.isnan(table.values["mass"][table.classes.index("spleen_of_nobody")]).all()


def test_an_explanation_of_one_class_and_no_region_is_shown(tmp_path):
    found = write_explanation(
        tmp_path / "e", attributions={"heart": bright_attribution()}, regions=False, labels=("background", "heart")
    )
    shown = scene.show_explanation(found, scene.new_scene())
    show_everything(shown)
    assert shown.regions_node is None
    assert shown.keeper.find("vtkMRMLModelNode", "graph").GetAttribute("Agg2Exp.Sources") == ""


def test_an_attribution_of_zeros_is_shown_empty_and_one_without_numbers_is_refused(tmp_path):
    wrong = np.full(SHAPE, np.nan, np.float32)
    found = write_explanation(tmp_path / "e", attributions={"heart": np.zeros(SHAPE, np.float32), "ribs": wrong})
    shown = scene.show_explanation(found, scene.new_scene())
    assert not array_of(shown.show_overlay("heart")).any()
    shown.show_volume_rendering("heart")
    shown.show_graph("heart")
    shown.show_chart("heart")
    assert len(shown.strongest_position("heart")) == 3
    with pytest.raises(InputError, match="voxels without a finite value"):
        shown.show_overlay("ribs")


def test_a_document_that_does_not_say_how_is_refused(explanation):
    path = explanation.folder / "explanation.json"
    document = json.loads(path.read_text())
    del document["settings"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"explanation\.json lacks 'settings'"):
        scene.show_explanation(Explanation.load(explanation.folder), scene.new_scene())


def test_among_many_structures_only_those_concerned_are_shown_in_3d(tmp_path, monkeypatch):
    from Agg2ExpLib.scene import arrange

    shown = scene.show_explanation(write_explanation(tmp_path / "e"), scene.new_scene())
    display, segmentation = shown.segmentation_node.GetDisplayNode(), shown.segmentation_node.GetSegmentation()

    def seen():
        return {
            name
            for name, segment in explained_segments(shown.segmentation_node, shown.key)
            if display.GetSegmentVisibility3D(segmentation.GetSegmentIdBySegment(segment))
        }

    arrange.context_in_3d(shown, ["heart"])
    assert len(seen()) == 4
    monkeypatch.setattr(arrange, "_MANY", 3)
    arrange.context_in_3d(shown, ["heart"])
    assert seen() == {"heart"}


def test_the_class_shown_first_is_a_large_one_in_the_middle_and_none_without_any(tmp_path):
    from Agg2ExpLib.scene.arrange import first_class

    shown = scene.show_explanation(write_explanation(tmp_path / "e"), scene.new_scene())
    assert first_class(shown) == "lung_lower_lobe_left"
    shown = scene.show_explanation(write_explanation(tmp_path / "f", attributions={}), scene.new_scene())
    assert first_class(shown) is None


@pytest.mark.real_data
def test_the_real_abdomen_lies_in_the_scene_where_its_file_says():
    from pathlib import Path

    from Agg2ExpLib.volume import read_volume

    places = [parent / "shared" / "data" / "abdomen_ct_3mm.nii.gz" for parent in Path(__file__).resolve().parents]
    scan = next((place for place in places if place.is_file()), None)
    if scan is None:
        pytest.skip("the real CT scans are not here")
    volume, scene_ = read_volume(scan), scene.new_scene()
    node = scene_.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    fill_volume_node(node, volume)
    np.testing.assert_allclose(affine_of(node), volume.affine, atol=1e-5)
    np.testing.assert_array_equal(array_of(node), volume.voxels)
