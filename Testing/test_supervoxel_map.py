"""A user's own supervoxels: any grid, every bad map refused with a sentence, and enough noted to repeat the run."""

import csv
import hashlib
import json

import numpy as np
import pytest
from small_networks import write_case

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.methods.games.supervoxel_map import MANY, count_supervoxels, read_map
from Agg2ExpLib.request import Request, request_of
from Agg2ExpLib.volume import Grid, Volume, read_volume, write_volume

SHAPE = (24, 20, 22)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


def octants(grid=GRID, values=(7, 9, 400, 12, 13, 20, 21, 35)):
    """Eight boxes of the small case's field of view, with numbers as a user may have them."""
    centres = np.stack(np.meshgrid(*(np.arange(size) for size in grid.shape), indexing="ij"), axis=-1)
    places = centres @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    upper = places > np.array([24.0, 20.0, 22.0])
    return Volume(np.array(values, np.int32)[(upper * [4, 2, 1]).sum(axis=-1)], grid)


def written(folder, volume, name="parcels.nii.gz"):
    return write_volume(volume, folder / name)


def run(*words):
    return main([str(word) for word in words])


def test_a_maps_values_become_supervoxels_named_after_them(tmp_path):
    labels = octants()
    labels.voxels[:2] = 0
    found = read_map(written(tmp_path, labels), GRID)
    assert found.supervoxels.names == tuple(f"supervoxel {n}" for n in (7, 9, 12, 13, 20, 21, 35, 400))
    assert (found.supervoxels.labels[:2] == 0).all()
    for number, value in enumerate((7, 9, 12, 13, 20, 21, 35, 400), start=1):
        assert np.array_equal(found.supervoxels.labels == number, labels.voxels == value)
    assert found.notes == ("8.3% of the scan lies in no supervoxel of parcels.nii.gz and is never removed",)


def test_a_map_of_another_grid_in_the_same_space_is_resampled_and_that_is_said(tmp_path):
    fine = Grid((48, 40, 44), np.array([[-1.0, 0, 0, 46.5], [0, 1.0, 0, -0.5], [0, 0, 1.0, -0.5], [0, 0, 0, 1]]))
    found = read_map(written(tmp_path, octants(fine)), GRID)
    whole = read_map(written(tmp_path, octants(), "same.nii.gz"), GRID)
    # Borders between boxes lie half way between voxels of either grid, but for one plane along each axis.
    assert (found.supervoxels.labels == whole.supervoxels.labels).mean() > 0.8
    assert found.supervoxels.names == whole.supervoxels.names
    assert any("was resampled onto the model's grid" in note for note in found.notes)
    assert whole.notes == ()


def far_away():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 500.0
    return Volume(octants().voxels, Grid(SHAPE, affine))


def one_inside():
    """Two supervoxels, of which the second lies beyond the scan."""
    voxels = np.ones((48, 20, 22), np.uint8)
    voxels[30:] = 2
    return Volume(voxels, Grid(voxels.shape, GRID.affine))


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (Volume(np.zeros(SHAPE, np.uint8), GRID), "holds no supervoxel, and a method needs at least 2"),
        (Volume(np.full(SHAPE, 5, np.uint8), GRID), "holds only 1 supervoxel, and a method needs at least 2"),
        (far_away(), "of the 8 supervoxels of this map none lies within the scan"),
        (one_inside(), "of the 2 supervoxels of this map only 1 lies within the scan"),
        (Volume(np.full(SHAPE, 0.5, np.float32), GRID), "holds fractions"),
        (Volume(np.full(SHAPE, -3, np.int16), GRID), "so this is no label map"),
    ],
)  # fmt: skip
def test_a_map_that_cannot_serve_is_refused_before_anything_is_run(tmp_path, capsys, volume, words):
    case, model = write_case(tmp_path)
    path = written(tmp_path, volume)
    assert run("explain", case, "--model", model, "--out", tmp_path / "out", "--method", "occlusion",
               "--supervoxels", path, "--progress", "json") == 2  # fmt: skip
    out, error = capsys.readouterr()
    assert "segmentation" not in out
    assert words in error
    assert str(path) in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_supervoxels_lost_on_the_models_grid_and_too_many_of_them_are_told(tmp_path):
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    # One voxel of a finer grid each, so most lie between the model's voxels.
    fine = np.arange(1, 41**3 + 1, dtype=np.int32).reshape(41, 41, 41)
    found = read_map(written(tmp_path, Volume(fine, Grid(fine.shape, affine))), Grid((11, 11, 11), GRID.affine))
    assert len(found.supervoxels.names) == 11**3
    assert any(f"{41**3 - 11**3} of its {41**3} supervoxels have no voxel" in note for note in found.notes)
    assert any(f"has {11**3} supervoxels: kernelshap needs more samples" in note for note in found.notes)
    assert MANY < 11**3


@pytest.mark.parametrize("method", ["kernelshap", "occlusion"])
def test_a_map_explains_and_everything_to_repeat_it_is_noted(tmp_path, method):
    case, model = write_case(tmp_path)
    path = written(tmp_path, octants())
    words = ["explain", case, "--model", model, "--method", method, "--supervoxels", path, "--progress", "none"]
    assert run(*words, "--out", tmp_path / "first") == 0
    found = Explanation.load(tmp_path / "first")
    about = found.document["supervoxel_map"]
    assert about["path"] == str(path)
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["supervoxels"] == 8
    assert found.document["settings"]["supervoxels"] == str(path)
    kept = read_volume(found.folder / "model_grid" / "supervoxels.nii.gz", kind="labels")
    assert np.array_equal(kept.voxels, read_map(path, GRID).supervoxels.labels)
    with (found.folder / "attributions" / "one_supervoxels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [f"supervoxel {n}" for n in (7, 9, 12, 13, 20, 21, 35, 400)]
    # The settings of the document alone repeat it.
    settings = Request.from_dict({**found.document["settings"], "classes": None})
    from Agg2ExpLib.explanation import explain

    again = explain(case, model, tmp_path / "again", settings)
    assert np.array_equal(again.attribution("one").voxels, found.attribution("one").voxels)
    # And so does the map that was kept.
    assert run(*words[:7], kept.source, *words[8:], "--out", tmp_path / "third") == 0
    third = Explanation.load(tmp_path / "third")
    assert np.array_equal(third.attribution("one").voxels, found.attribution("one").voxels)


def test_a_changed_map_is_another_run(tmp_path, monkeypatch):
    from Agg2ExpLib.errors import Cancelled
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.explanation import sinks as at_work

    case, model = write_case(tmp_path)
    path = written(tmp_path, octants())
    settings = request_of(method="occlusion", supervoxels=str(path), device="cpu")

    def stops(name):
        # The first class is finished and kept, the second is not.
        if name == "two":
            raise Cancelled
        return f"attributions/{name}_supervoxels.csv"

    with monkeypatch.context() as patch, pytest.raises(Cancelled):
        patch.setattr(at_work, "supervoxel_file", stops)
        explain(case, model, tmp_path / "out", settings, resume=True)
    assert list(tmp_path.rglob("one_supervoxels.csv"))
    other = octants()
    other.voxels[other.voxels == 7] = 9
    written(tmp_path, other)
    resumed = explain(case, model, tmp_path / "out", settings, resume=True)
    whole = explain(case, model, tmp_path / "whole", settings)
    for name in whole.explained:
        assert np.array_equal(resumed.attribution(name).voxels, whole.attribution(name).voxels)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "kernelshap", "--supervoxels", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["--method", "kernelshap", "--supervoxels", "blobs"], "unknown supervoxels 'blobs'"),
        (["--method", "kernelshap", "--supervoxels", "blobs"], "or the file of a label volume"),
        (["--method", "smoothgrad", "--supervoxels", "MAP"], "SmoothGrad has no option 'supervoxels'"),
        (["--method", "kernelshap", "--supervoxels", "MAP", "--estimator", "shap", "--samples", "4"],
         "4 samples are too few for 8 supervoxels: give at least 9 with --samples"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_sentence_with_exit_code_2(tmp_path, capsys, words, message):
    case, model = write_case(tmp_path)
    path = written(tmp_path, octants())
    words = [str(path) if word == "MAP" else word for word in words]
    assert run("explain", case, "--model", model, "--out", tmp_path / "out", *words, "--progress", "none") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_estimate_counts_a_maps_supervoxels(tmp_path, capsys):
    case, model = write_case(tmp_path)
    path = written(tmp_path, octants())
    assert count_supervoxels(path) == 8
    words = ["estimate", case, "--model", model, "--method", "occlusion", "--supervoxels", path, "--progress", "json"]
    assert run(*words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["points"] == 9


def test_the_truth_is_noted_with_its_hash(tmp_path):
    case, model = write_case(tmp_path)
    truth = written(tmp_path, Volume((octants().voxels > 12).astype(np.uint8), GRID), "truth.nii.gz")
    assert run("explain", case, "--model", model, "--method", "kernelshap", "--value", "dice", "--samples", "20",
               "--truth", truth, "--out", tmp_path / "out", "--progress", "none") == 0  # fmt: skip
    about = Explanation.load(tmp_path / "out").document["truth"]
    assert about == {"path": str(truth), "sha256": hashlib.sha256(truth.read_bytes()).hexdigest()}


COMPARE = ["--subsets", "4", "--subset-voxels", "100", "--copies", "1", "--device", "cpu", "--no-randomisation",
           "--progress", "none"]  # fmt: skip


def test_methods_are_compared_on_a_map_and_only_they_depend_on_it(tmp_path):
    case, model = write_case(tmp_path)
    path = written(tmp_path, octants())
    words = ["compare-methods", case, "--model", model, "--out", tmp_path / "out", "--methods",
             "gradient,kernelshap:map=30,occlusion:map", "--supervoxels", path, *COMPARE]  # fmt: skip
    assert run(*words) == 0
    out = tmp_path / "out"
    about = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert about["supervoxel_maps"][tmp_path.name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    with (out / "quality_table.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["method"] for row in csv.DictReader(stream)] == ["gradient", "kernelshap:map=30", "occlusion:map"]
    results = out / "cases" / tmp_path.name
    files = {name: next(results.glob(f"{name}*.json")) for name in ("gradient", "kernelshap")}
    before = {name: file.read_bytes() for name, file in files.items()}
    other = octants()
    other.voxels[other.voxels == 7] = 9
    written(tmp_path, other)
    assert run(*words) == 0
    after = {name: file.read_bytes() for name, file in files.items()}
    assert after["gradient"] == before["gradient"]
    assert after["kernelshap"] != before["kernelshap"]


def test_a_bare_name_is_looked_for_beside_each_scan(tmp_path):
    from Agg2ExpLib.comparison import Plan

    plan = Plan(methods=("occlusion:map",), supervoxel_map="parcels.nii.gz")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, octants())
        assert plan.map_of(name, tmp_path / name / "ct.nii.gz") == tmp_path / name / "parcels.nii.gz"
    with pytest.raises(InputError, match=r"there is no such file for case c; give a label volume with --supervoxels"):
        plan.map_of("c", tmp_path / "ct.nii.gz")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "occlusion:map"], "needs your supervoxel map; give it with --supervoxels FILE"),
        (["--methods", "occlusion", "--supervoxels", "MAP"], "name kernelshap:map or occlusion:map with --methods"),
        (["--methods", "occlusion:map", "--supervoxels", "nowhere.nii.gz"], "there is no such file for case "),
        (["--methods", "gradient,occlusion:map", "--supervoxels", "FAR"], "none lies within the scan"),
    ],
)  # fmt: skip
def test_a_comparison_without_a_good_map_is_refused_before_anything_is_run(tmp_path, capsys, words, message):
    case, model = write_case(tmp_path)
    files = {"MAP": written(tmp_path, octants()), "FAR": written(tmp_path, far_away(), "far.nii.gz")}
    words = [str(files.get(word, word)) for word in words]
    assert run("compare-methods", case, "--model", model, "--out", tmp_path / "out", *words, *COMPARE) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list((tmp_path / "out").glob("cases/*/*.json"))
