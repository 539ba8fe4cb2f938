"""Pictures drawn by Slicer's own views: what is bright in the attribution is bright in the right place of the picture."""

import numpy as np
import pytest
from small_explanations import BRIGHT, SHAPE, affine, bright_attribution, write_explanation

from Agg2ExpLib.cli import main
from Agg2ExpLib.scene import show_explanation, views
from Agg2ExpLib.scene.arrange import bounds_of
from Agg2ExpLib.scene.opengl import why_not_drawn
from Agg2ExpLib.scene.render import PICTURES, picture, studio
from Agg2ExpLib.volume import Grid

pytestmark = pytest.mark.skipif(bool(why_not_drawn()), reason=why_not_drawn() or "drawn")
SIZE = (240, 200)


def place_of(pixels, node):
    """Return the RAS position of the middle of some pixels, (row from the top, column), in a slice view."""
    rows, columns = np.nonzero(pixels)
    height = pixels.shape[0]
    to_ras = node.GetXYToRAS()
    point = to_ras.MultiplyPoint([columns.mean(), height - 1 - rows.mean(), 0.0, 1.0])
    return np.array(point[:3])


@pytest.mark.parametrize("kind", ["plain", "flipped", "left-handed", "oblique"])
@pytest.mark.parametrize("mode", ["magnitude", "signed"])
def test_a_bright_voxel_is_drawn_at_its_place_in_every_slice_view(kind, mode, tmp_path):
    found = write_explanation(tmp_path / "e", kind, attributions={"heart": bright_attribution()}, regions=False)
    expected = Grid(SHAPE, affine(kind)).index_to_world(BRIGHT)
    with studio(size=SIZE) as room:
        shown = show_explanation(found, room.scene)
        shown.segmentation_node.SetDisplayVisibility(False)
        views.slice_through(room.scene, expected)
        views.fit_slices(room.scene, bounds_of(shown.ct_node))
        before = {name: picture(view).astype(int) for name, view in room.slices.items()}
        node = shown.show_overlay("heart", mode, percentile=99.0, opacity=1.0)
        node.GetDisplayNode().InterpolateOff()
        shown.scene.GetNthNodeByClass(0, "vtkMRMLColorLegendDisplayNode").SetVisibility(False)
        for name, view in room.slices.items():
            changed = np.abs(picture(view).astype(int) - before[name]).sum(axis=2) > 60
            assert changed.any(), name
            at = place_of(changed, view.get_view_node())
            # One voxel is 3 mm at most; the slice itself goes through the voxel.
            assert np.linalg.norm(at - expected) < 2.0, (name, at, expected)


def test_the_patients_right_is_on_the_left_of_an_axial_slice(tmp_path):
    found = write_explanation(tmp_path / "e", regions=False)
    with studio(size=SIZE) as room:
        show_explanation(found, room.scene)
        matrix = room.slices["axial"].get_view_node().GetXYToRAS()
        left, right = (matrix.MultiplyPoint([column, 100, 0, 1])[0] for column in (0, SIZE[0]))
        assert left > right
        matrix = room.slices["sagittal"].get_view_node().GetXYToRAS()
        front, back = (matrix.MultiplyPoint([column, 100, 0, 1])[1] for column in (0, SIZE[0]))
        assert front > back


def test_signed_overlays_draw_for_in_red_and_against_in_blue(tmp_path):
    found = write_explanation(tmp_path / "e", regions=False)
    with studio(size=SIZE) as room:
        shown = show_explanation(found, room.scene)
        shown.segmentation_node.SetDisplayVisibility(False)
        views.slice_through(room.scene, shown.strongest_position("heart"))
        views.fit_slices(room.scene, bounds_of(shown.ct_node))
        plain = picture(room.slices["axial"]).astype(int)
        for name, strong, weak in (("heart", 0, 2), ("lung_lower_lobe_left", 2, 0)):
            shown.show_overlay(name, "signed", percentile=99.0, opacity=1.0)
            shown.scene.GetNthNodeByClass(0, "vtkMRMLColorLegendDisplayNode")
            drawn = picture(room.slices["axial"]).astype(int)[:, : SIZE[0] * 3 // 4]
            changed = np.abs(drawn - plain[:, : SIZE[0] * 3 // 4]).sum(axis=2) > 60
            colour = drawn[changed].mean(axis=0)
            assert colour[strong] > colour[weak] + 60


@pytest.mark.parametrize("background", ["dark", "light"])
def test_the_command_draws_six_different_pictures(background, tmp_path, capsys, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("Agg2ExpLib.scene.render.SIZE", SIZE)
    folder = write_explanation(tmp_path / "e", "oblique").folder
    out = tmp_path / "pictures"
    arguments = ["render", str(folder), "--out", str(out), "--class", "heart", "--background", background]
    assert main([*arguments, "--progress", "none"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(f"heart-{kind}.png" for kind in PICTURES)
    drawn = [np.asarray(Image.open(out / f"heart-{kind}.png")).astype(int) for kind in PICTURES]
    for index, one in enumerate(drawn):
        assert one.shape == (*reversed(SIZE), 3)
        assert one.std() > 5
        corner = one[-3, 3]
        assert (corner.mean() > 200) == (background == "light")
        for other in drawn[index + 1 :]:
            assert np.abs(one - other).mean() > 1
    assert len(capsys.readouterr().out.split()) == 6


def test_a_class_without_attribution_is_refused_and_nothing_is_drawn(tmp_path, capsys):
    folder = write_explanation(tmp_path / "e").folder
    arguments = ["render", str(folder), "--out", str(tmp_path / "p"), "--class", "spleen_of_nobody"]
    assert main([*arguments, "--progress", "none"]) == 2
    assert "has no attribution" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
