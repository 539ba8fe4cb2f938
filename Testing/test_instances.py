"""Instances of a class: they sum to the class exactly, and the one that the model found by something else is marked."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from small_networks import Smooth, write_case  # noqa: E402

from Agg2ExpLib.case import Case  # noqa: E402
from Agg2ExpLib.cli import main  # noqa: E402
from Agg2ExpLib.cohort.judge.instances import oddness  # noqa: E402
from Agg2ExpLib.errors import Cancelled, InputError  # noqa: E402
from Agg2ExpLib.explanation import explain  # noqa: E402
from Agg2ExpLib.instances import describe_instances, explain_instances  # noqa: E402
from Agg2ExpLib.methods import Gradient, SmoothGrad, method_of  # noqa: E402
from Agg2ExpLib.models import Tiling, from_module  # noqa: E402
from Agg2ExpLib.progress import Progress  # noqa: E402
from Agg2ExpLib.request import request_of  # noqa: E402
from Agg2ExpLib.volume import Grid, Volume, read_volume  # noqa: E402

torch.set_num_threads(1)
STEP = 2.0
SHAPE = (64, 24, 24)
# Radius in voxels and place of six lesions that differ in size, and the faint one.
PLACES = (
    (1.5, (5, 6, 6)),
    (1.8, (5, 6, 17)),
    (2.1, (5, 17, 6)),
    (2.4, (28, 17, 17)),
    (2.7, (28, 6, 6)),
    (3.1, (28, 17, 6)),
)
FAINT = (2.3, (44, 11, 11))


class Finder(torch.nn.Module):
    """Finds a lesion by its own brightness, or, where it is faint, by a marker 12 voxels farther along the first axis."""

    def forward(self, x):
        blurred = 0.6 * x + 0.4 * torch.nn.functional.avg_pool3d(x, 5, 1, 2)
        by_marker = torch.minimum(3 * x, 1.5 * torch.roll(blurred, -12, dims=2))
        found = torch.maximum(blurred, by_marker)
        return torch.cat([0.45 + 0.0 * x, found, 0.0 * x - 9], dim=1)


def ball(radius, centre):
    away = np.indices(SHAPE).T - np.array(centre)
    return (np.linalg.norm(away, axis=-1) <= radius).T


def case_of(places=PLACES, faint=FAINT, progress=None):
    scan = np.zeros(SHAPE, dtype=np.float32)
    for number, one in enumerate(places):
        scan[ball(*one)] = 1.0 + 0.03 * number
    if faint:
        scan[ball(*faint)] = 0.3
        radius, (i, j, k) = faint
        scan[ball(radius, (i + 12, j, k))] = 0.44
    model = from_module(Finder(), classes=("background", "lesion", "none"), tiling=Tiling(SHAPE), removed=0.0)
    grid = Grid(SHAPE, np.diag([-STEP, -STEP, STEP, 1.0]))
    return Case.open(Volume(scan, grid), model, device="cpu", progress=progress)


def told(case, **more):
    return explain_instances(case, request_of("gradient", classes=["lesion"]), **more)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("Agg2ExpLib.cohort.judge.instances._DRAWS", 200)


@pytest.mark.parametrize(
    ("method", "reduction"),
    [
        (Gradient(), "sum"),
        (SmoothGrad(samples=2), "mean"),
        (method_of("integrated-gradients", samples=2), "probability"),
    ],
    ids=lambda one: getattr(one, "id", one),
)
def test_the_instances_sum_to_the_class_and_run_only_the_windows_they_touch(method, reduction):
    shape = (20, 9, 10)
    scan = Volume(np.random.default_rng(3).normal(size=shape), Grid(shape, np.eye(4)))
    model = from_module(
        Smooth(), classes=("background", "one", "two", "three"), tiling=Tiling((8, 12, 8)), removed=-1.5
    )
    case = Case.open(scan, model, device="cpu", precision="float64")
    found = case.instances("two", 0.0, 1000, reduction)
    assert len(found.objectives) > 5
    (whole,) = case.attribute(method, ["two"], reduction)
    parts = list(case.attribute(method, objectives=found.objectives))
    difference = sum(one.full(shape) for one in parts) - whole.full(shape)
    assert np.abs(difference).max() < 1e-10 * np.abs(whole.full(shape)).max()
    assert sum(one.value for one in parts) == pytest.approx(whole.value, rel=1e-10)
    for number, one in enumerate(parts, start=1):
        assert one.windows_run == len(case.stitched[0].windows.touching(found.labels == number))
    assert min(one.windows_run for one in parts) < whole.windows_run


def test_the_one_found_by_something_else_is_marked_and_no_other():
    table = told(case_of())
    assert len(table.rows) == 7
    (odd,) = [row for row in table.rows if row.odd]
    assert [odd.x, odd.y, odd.z] == pytest.approx([88.0, 22.0, 22.0], abs=STEP)
    assert odd.outside > 0.5 > max(row.outside for row in table.rows if row is not odd)
    assert odd.expected < 0.05
    assert f"number {odd.number}" in table.sentences[0]
    assert f"chance alone gives {odd.expected:.2g}" in table.sentences[0]
    assert "unlike the others" in describe_instances(table)
    # The largest first; volumes are those of the label map.
    counted = np.bincount(table.labels.voxels.ravel())[1:] * STEP**3 / 1000
    assert [row.volume_ml for row in table.rows] == pytest.approx(counted.tolist())
    assert list(counted) == sorted(counted, reverse=True)
    assert all(row.inside + row.rim + row.outside == pytest.approx(1.0) for row in table.rows)


def test_of_alike_ones_none_is_marked_although_their_shares_go_with_size():
    table = told(case_of(faint=None))
    assert len(table.rows) == 6
    assert not any(row.odd for row in table.rows)
    assert np.ptp([row.inside for row in table.rows]) > 0.05
    assert "None is unlike the others" in table.sentences[0]


def test_of_fewer_than_five_nothing_is_said():
    table = told(case_of(PLACES[:3]))
    assert len(table.rows) == 4
    assert all(np.isnan(row.oddness) and not row.odd for row in table.rows)
    assert "Of fewer than 5 nothing is said" in table.sentences[0]


def test_small_ones_and_those_beyond_the_most_are_left_out_and_counted():
    case = case_of()
    volumes = [row.volume_ml for row in told(case).rows]
    table = told(case, min_volume_ml=volumes[-2], most=4)
    assert [row.volume_ml for row in table.rows] == volumes[:4]
    assert "1 smaller than" in table.sentences[0]
    assert "2 beyond the 4 largest left out" in table.sentences[0]


def test_none_there_is_an_empty_table():
    table = explain_instances(case_of(), request_of("gradient", classes=["none"]))
    assert (table.rows, table.sentences) == ((), ("none: 0 instances.",))
    assert not table.labels.voxels.any()


def test_what_cannot_be_exact_is_refused_by_name():
    case = case_of()
    with pytest.raises(InputError, match="would not sum to their class; use --method gradient"):
        explain_instances(case, request_of("gradcam", classes=["lesion"]))
    with pytest.raises(InputError, match="a rim of 1 mm has no voxel of 2 mm"):
        told(case, rim_mm=1.0)
    with pytest.raises(InputError, match="--min-volume 0 or more"):
        told(case, min_volume_ml=float("nan"))
    with pytest.raises(InputError, match="must be 1 to 65535"):
        told(case, most=0)
    with pytest.raises(InputError, match="no class 'lesoin'"):
        explain_instances(case, request_of("gradient", classes=["lesoin"]))


def test_it_can_be_cancelled():
    stop = []
    case = case_of(progress=Progress(cancelled=lambda: bool(stop)))
    case.segmentation  # noqa: B018 - it is cancelled after this
    stop.append(True)
    with pytest.raises(Cancelled):
        told(case)


def test_size_alone_makes_nothing_odd_and_equal_instances_are_alike():
    volumes = np.exp(np.linspace(0, 4, 12))
    inside = 1 / (1 + np.exp(-0.8 * np.log(volumes) + 2))
    shares = np.stack([inside, (1 - inside) * 0.6, (1 - inside) * 0.4], axis=1)
    found = oddness(shares, volumes)
    assert found.z.max() < 0.5
    assert found.size_correlation == pytest.approx(1.0)
    assert not oddness(np.full((6, 3), 1 / 3), np.ones(6)).odd.any()
    shares[4] = [0.02, 0.18, 0.8]
    shares[7] = np.nan
    found = oddness(shares, volumes)
    assert np.flatnonzero(found.odd).tolist() == [4]
    assert np.isnan(found.z[7])


def test_the_command_answers_for_a_scan_as_for_its_explanation(tmp_path, capsys):
    image, model = write_case(tmp_path)
    explain(image, model, tmp_path / "explained", request_of("gradient", device="cpu", classes=["one"]))
    asked = ["--min-volume", "0", "--rim", "3", "--most", "6", "--device", "cpu"]
    first = ["instances", str(image), "--model", str(model), "--method", "gradient", "--classes", "one", *asked]
    assert main([*first, "--out", str(tmp_path / "first")]) == 0
    assert "unlike" in capsys.readouterr().out
    assert main(["instances", str(tmp_path / "explained"), *asked, "--out", str(tmp_path / "second")]) == 0
    tables = []
    for name in ("first", "second"):
        with (tmp_path / name / "instances.csv").open(encoding="utf-8", newline="") as stream:
            tables.append(list(csv.DictReader(stream)))
        document = json.loads((tmp_path / name / "instances.json").read_text(encoding="utf-8"))
        assert document["identity"]["settings"]["method"] == "gradient"
        assert len(document["image"]["sha256"]) == 64
        labels = read_volume(tmp_path / name / "instances.nii.gz", kind="labels").voxels
        assert labels.max() == len(tables[-1]) == 6
    assert tables[0] == tables[1]
    # Another method is the user's choice; windows, precision and reduction are the explanation's.
    assert main(["instances", str(tmp_path / "explained"), *asked, "--samples", "2"]) == 2
    assert main(["instances", str(tmp_path / "explained"), *asked, "--method", "smoothgrad", "--samples", "2"]) == 0
    assert main(["instances", str(tmp_path / "explained"), "--precision", "float64"]) == 2
    assert "--precision is as" in capsys.readouterr().err
    assert main(["instances", str(tmp_path / "explained"), "--out", str(tmp_path / "first")]) == 2
