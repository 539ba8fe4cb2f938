"""Figures of an Explanation folder: slices where they should be, files that are complete or absent, bad folders refused."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from figure_cases import SHAPE, WHOLE, outside_of_page, random_table, texts_of, write_explanation
from hypothesis import given, settings
from hypothesis import strategies as st

from Agg2ExpLib.cli import main
from Agg2ExpLib.demo import draw_demo
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures import importance_graph, importance_heat_map, slice_panels, write_case_figures, write_figure
from Agg2ExpLib.figures.slice_parts import Plane
from Agg2ExpLib.figures.slices import strongest_voxel
from Agg2ExpLib.figures.style import colour_of
from Agg2ExpLib.volume import Grid, Volume, reorient, write_volume

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path):
    return write_explanation(tmp_path / "case")


@pytest.fixture
def case(folder):
    return Explanation.load(folder)


def overlay(axes):
    return next(image for image in axes.images if image.get_gid() == "attribution")


def brightest(axes):
    """Where the overlay is brightest, in millimetres of the picture."""
    image = overlay(axes)
    values = image.get_array()
    row, column = np.unravel_index(np.argmax(values), values.shape)
    left, right, low, high = image.get_extent()
    return (
        left + (column + 0.5) * (right - left) / values.shape[1],
        low + (row + 0.5) * (high - low) / values.shape[0],
    )


def ticks(axes):
    """The point that the four ticks leave free."""
    lines = [line for line in axes.lines if line.get_color() == "#3fe0ff"]
    assert len(lines) == 4
    return np.mean([line.get_xdata() for line in lines]), np.mean([line.get_ydata() for line in lines])


def turned(affine_codes):
    """An affine whose axes run towards the letters, 2 x 2 x 3 mm."""
    letters = "RAS"
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, step) in enumerate(zip(affine_codes, (2.0, 2.0, 3.0), strict=True)):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[row, axis] = step if letter in letters else -step
    affine[:3, 3] = (-11, 5, 40)
    return affine


def oblique():
    a, b = np.radians(17), np.radians(-12)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = z @ x @ np.diag([-2.0, 2.0, -3.0])
    return affine


@pytest.mark.parametrize("affine", [turned("RAS"), turned("LPS"), turned("PIR"), turned("SLA"), oblique()])
def test_the_strongest_voxel_lies_under_the_ticks_on_the_patients_true_side(tmp_path, affine):
    peak = (3, 8, 6)
    case = Explanation.load(write_explanation(tmp_path / "case", affine, peak))
    axial, coronal, sagittal = slice_panels(case, "heart").axes[:3]
    for axes in (axial, coronal, sagittal):
        assert brightest(axes) == pytest.approx(ticks(axes))
    grid = Grid(SHAPE, affine)
    right, front, up = grid.index_to_world(peak) - grid.centre
    # A slice across an oblique scan mixes neighbouring axes; which half a voxel lies in follows the scan's own axis.
    ras = reorient(Volume(np.zeros(SHAPE, np.uint8), grid)).grid
    right, front, up = ras.direction.T @ np.array([right, front, up])
    for axes, across, along in ((axial, right, front), (coronal, right, up), (sagittal, front, up)):
        x, y = ticks(axes)
        width, height = axes.get_xlim()[1], axes.get_ylim()[1]
        # Right, and front, are on the left of the picture.
        assert width / 2 - x == pytest.approx(across, abs=1e-3)
        assert y - height / 2 == pytest.approx(along, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)))
def test_a_voxel_is_found_again_in_all_three_planes(point):
    values = np.zeros(SHAPE)
    values[point] = 1
    assert strongest_voxel(values, values > 0) == point
    for plane in Plane.through(point, (2.0, 1.5, 3.0), SHAPE):
        picture = plane.cut(values)
        row, column = np.argwhere(picture == 1)[0]
        x, y = plane.centre
        assert x == pytest.approx((column + 0.5) * plane.width / picture.shape[1])
        assert y == pytest.approx((row + 0.5) * plane.height / picture.shape[0])


def test_the_letters_are_those_of_radiology(case):
    figure = slice_panels(case, "heart")
    letters = [[text.get_text() for text in axes.texts[:4]] for axes in figure.axes[:3]]
    assert letters == [["R", "L", "A", "P"], ["R", "L", "S", "I"], ["A", "P", "S", "I"]]


def test_slices_show_ct_outlines_scale_and_legend(case):
    figure = slice_panels(case, "heart", background="light")
    axial = figure.axes[0]
    assert axial.images[0].get_clim() == (-160, 240)
    outlines = [tuple(found.get_edgecolor()[0][:3]) for found in axial.collections]
    assert pytest.approx(colour_of("heart")) in outlines
    told = texts_of(figure)
    assert {"heart (explained)", "trachea", "5 mm"} <= set(told)
    assert any("% of its" in text for text in told)
    assert outside_of_page(figure) == {}


def test_a_structure_of_air_is_shown_in_the_lung_window(case):
    figure = slice_panels(case, "trachea")
    assert figure.axes[0].images[0].get_clim() == (-1350, 150)
    assert any("lung (level -600, width 1500 HU)" in text for text in texts_of(figure))
    assert slice_panels(case, "trachea", ct_window="soft tissue").axes[0].images[0].get_clim() == (-160, 240)


def test_weak_attribution_is_transparent_and_the_strongest_is_not(case):
    image = overlay(slice_panels(case, "heart").axes[0])
    assert image.cmap(image.norm(0.0))[3] == 0
    assert image.cmap(image.norm(image.norm.vmax))[3] > 0.8


def test_an_attribution_of_zero_is_shown_without_an_overlay(folder, case):
    write_volume(Volume(np.zeros(SHAPE, np.float32), case.model_image().grid), folder / "attributions" / "heart.nii.gz")
    figure = slice_panels(case, "heart")
    assert len(figure.axes[0].images) == 1
    assert any("0 everywhere" in text for text in texts_of(figure))


def test_an_empty_region_leaves_every_figure_whole(tmp_path):
    case = Explanation.load(write_explanation(tmp_path / "case", empty_region=True))
    files = write_case_figures(case, tmp_path / "out", formats=("png",), dpi=40)
    assert {file.stem for file in files} >= {"slices_heart", "bars_heart", "heat_map_enrichment"}


def test_volumes_on_another_grid_are_refused(folder, case):
    grid = case.model_image().grid
    shifted = grid.affine.copy()
    shifted[0, 3] += 4
    write_volume(Volume(np.ones(SHAPE, np.float32), Grid(SHAPE, shifted)), folder / "attributions" / "heart.nii.gz")
    with pytest.raises(InputError, match="another grid"):
        slice_panels(case, "heart")


def test_a_label_without_a_name_is_refused(folder, case):
    labels = np.full(SHAPE, 9, np.int16)
    write_volume(Volume(labels, case.model_image().grid), folder / "model_grid" / "prediction.nii.gz")
    with pytest.raises(InputError, match="label 9"):
        slice_panels(case, "heart")


def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    table = random_table(("background", "heart", "aorta", "ribs"))
    first = write_figure(importance_graph(table), tmp_path / "a", "graph")
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "pink", "svg.hashsalt": "other", "lines.linewidth": 9}
    ):
        second = write_figure(importance_graph(table), tmp_path / "b", "graph")
        assert matplotlib.rcParams["font.size"] == 30
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"<dc:date>" not in first[1].read_bytes()


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    importance_heat_map(random_table(("background", "heart")), background="dark")
    assert dict(matplotlib.rcParams) == before
    program = "import Agg2ExpLib.figures as f, sys; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_figures_are_drawn_and_written_without_torch_and_without_pyplot(folder, tmp_path):
    program = f"""
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "captum", "shap", "slicer", "vtk", "qt") or name == "matplotlib.pyplot":
            raise ModuleNotFoundError("the wall: " + name)
sys.meta_path.insert(0, Wall())
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.figures import write_case_figures
files = write_case_figures(Explanation.load({str(folder)!r}), {str(tmp_path / "out")!r}, classes=["heart"], dpi=40, formats=("png",))
print(len(files))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "7"


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    figure = importance_heat_map(random_table(("background", "heart")))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_figure(figure, tmp_path, "heat_map")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_older_file(tmp_path, monkeypatch):
    figure = importance_heat_map(random_table(("background", "heart")))
    (tmp_path / "map.png").write_bytes(b"older")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EACCES, "Permission denied")))
    with pytest.raises(OutputError, match="Permission denied"):
        write_figure(figure, tmp_path, "map")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("map.png", b"older")]


def test_another_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="png or svg"):
        write_figure(importance_heat_map(random_table(("background", "heart"))), tmp_path, "map", formats=("pdf",))


def run(*words):
    return main(["figures", *map(str, words), "--progress", "none"])


def test_the_command_writes_every_figure_as_png_and_svg(folder, capsys):
    assert run(folder, "--background", "dark") == 0
    expected = {"heat_map_mass", "graph_mass", "heat_map_enrichment", "graph_enrichment", "context"}
    expected |= {f"{kind}_{name}" for kind in ("bars", "slices") for name in ("heart", "trachea", "ribs")}
    there = {path.name for path in (folder / "figures").iterdir()}
    assert there == {f"{name}.{kind}" for name in expected for kind in ("png", "svg")}
    assert (folder / "figures" / "context.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "</svg>" in (folder / "figures" / "context.svg").read_text()
    told = capsys.readouterr().out
    assert all(name in told for name in expected)


def test_the_command_takes_measure_classes_and_place(folder, tmp_path, capsys):
    assert run(folder, "--measure", "mass-without-background", "--classes", "Heart,aorta", "--out", tmp_path / "o") == 0
    assert {path.stem for path in (tmp_path / "o").iterdir()} == {
        "heat_map_mass-without-background", "graph_mass-without-background", "context", "bars_heart", "bars_aorta",
        "slices_heart",
    }  # fmt: skip
    assert not (folder / "figures").exists()


def break_json(folder, **changes):
    document = json.loads((folder / "explanation.json").read_text())
    (folder / "explanation.json").write_text(json.dumps(document | changes))


def break_table(folder, pattern, replacement):
    path = folder / "importance_long.csv"
    path.write_text(re.sub(pattern, replacement, path.read_text(), count=1))


def only_header(folder):
    path = folder / "importance_long.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (lambda folder: (folder / "explanation.json").unlink(), [], "not an Explanation folder"),
        (lambda folder: (folder / "explanation.json").write_text("{"), [], "cannot be read"),
        (lambda folder: (folder / "attributions" / "heart.nii.gz").unlink(), [], "is incomplete"),
        (lambda folder: (folder / "attributions" / "heart.nii.gz").write_bytes(b"x" * 99), [], "heart.nii.gz"),
        (lambda folder: (folder / "importance_long.csv").unlink(), [], "is incomplete"),
        (lambda folder: break_json(folder, format_version=99), [], "update Agg2Exp"),
        (lambda folder: break_json(folder, settings={}), [], "repeat the explanation"),
        (lambda folder: break_json(folder, image=None), [], "repeat the explanation"),
        (
            lambda folder: break_table(folder, "heart,heart,[^,]*", "heart,heart,-1"),
            ["--measure", "enrichment"],
            "negative",
        ),
        (lambda folder: break_table(folder, "heart,heart,[^,]*", "heart,heart,inf"), [], "infinite"),
        (lambda folder: break_table(folder, "heart,heart,[^,]*", "heart,heart,much"), [], "not a number"),
        (only_header, [], "other classes than explanation.json tells of"),
        (None, ["--measure", "enrichmnt"], "did you mean enrichment"),
        (None, ["--classes", "hart"], "did you mean heart"),
        (None, ["--background", "blue"], "light or dark"),
    ],
)
def test_bad_folders_and_options_are_one_sentence_with_exit_code_2(folder, capsys, spoil, words, message):
    if spoil:
        spoil(folder)
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    half = [path.name for path in folder.rglob("*") if path.name.startswith(".")]
    assert half == []


def test_a_place_that_cannot_be_a_folder_is_refused(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(folder, "--out", tmp_path / "file") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_folder_that_is_none_is_refused(tmp_path, capsys):
    assert run(tmp_path / "nowhere") == 2
    assert "is not a folder" in capsys.readouterr().err


def test_an_explanation_in_which_every_class_is_absent_still_has_its_tables_drawn(tmp_path, capsys):
    folder = write_explanation(tmp_path / "case", absent=("heart", "trachea", "ribs", "aorta"))
    assert run(folder) == 0
    assert len(list((folder / "figures").glob("*.png"))) == 5


def test_the_demo_names_the_figures_that_it_draws(case, tmp_path):
    told = draw_demo(case, tmp_path / "figures")
    for file in (tmp_path / "figures").iterdir():
        assert file.stem in told
    assert {"slices_heart.png", "graph_enrichment.svg"} <= {file.name for file in (tmp_path / "figures").iterdir()}


def test_the_sample_figures_are_small_and_those_that_the_script_makes():
    folder = ROOT / "Resources" / "Screenshots"
    named = set(re.findall(r'^        "(\w+)": ', (folder / "make_figures.py").read_text(), re.MULTILINE))
    assert len(named) == 8
    for name in named:
        assert (folder / f"{name}.png").stat().st_size < 300_000


def test_the_case_of_these_tests_is_what_explain_would_write(case):
    strength = np.abs(case.attribution("heart").voxels)
    assert strength[WHOLE].max() == 51
    inside = case.model_prediction().voxels == 1
    assert case.importance.matrix("mass")[0, 1] == pytest.approx(strength[inside].sum() / strength.sum(), rel=1e-5)
