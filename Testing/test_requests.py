"""One description of what was asked: methods and their options everywhere, JSON and back, repeats, and what a file may not be."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import write_case

from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.estimate import estimate
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.methods import METHODS, IntegratedGradients, KernelSHAP, SmoothGrad, method_of
from Agg2ExpLib.methods.table import options_table
from Agg2ExpLib.models import load_model, registry
from Agg2ExpLib.models.testing import check_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.request import Request, difference, identity_of_settings, planned_identity, request_of
from Agg2ExpLib.volume import Grid, Volume, write_volume

torch.set_num_threads(1)
DOCS = Path(__file__).resolve().parents[1] / "docs"


def block(marker):
    """Return the python block that follows a marker in docs/extending.md."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    return re.search(rf"<!-- {marker} -->\n```python\n(.*?)```", text, re.DOTALL)[1]


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    image, model = write_case(folder)
    words = ["--model", model, "--out", folder / "out", "--classes", "one", "--device", "cpu", "--progress", "none"]
    assert run("explain", image, "--method", "smoothgrad", "--samples", 2, "--seed", 7, *words) == 0
    return image, model, folder / "out"


def test_a_method_of_another_package_is_seen_everywhere(small, tmp_path, capsys):
    image, model, _ = small
    source = block("method")
    try:
        exec(compile(source, "docs/extending.md", "exec"), {"__name__": "example"})
        with pytest.raises(SystemExit):
            run("explain", "--help")
        shown = capsys.readouterr().out
        assert "scaled-gradient" in shown
        assert "--times" in shown
        pytest.importorskip("slicer.i18n")
        from Agg2ExpLib.panel.words.choices import Choices, method_words
        from Agg2ExpLib.panel.words.options import options_of

        assert [one.label for one in options_of("scaled-gradient")] == ["factor"]
        assert method_words("scaled-gradient") == ("scaled gradient", "The gradient times a number.")
        assert Choices(method="scaled-gradient", more=(("times", 3.0),)).options()["times"] == 3.0
        made = method_of("scaled-gradient", times=3.0)
        request = Request(made, classes=("one",))
        assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request
        assert estimate(image, load_model(model), Request(made)).passes_at_most > 0
        words = ["--model", model, "--classes", "one", "--device", "cpu", "--progress", "none"]
        assert (
            run("explain", image, "--method", "scaled-gradient", "--times", 3, "--out", tmp_path / "three", *words) == 0
        )
        assert run("explain", image, "--method", "gradient", "--out", tmp_path / "one", *words) == 0
        three, one = (Explanation.load(tmp_path / name) for name in ("three", "one"))
        assert three.document["settings"]["times"] == 3.0
        assert np.allclose(three.attribution("one").voxels, 3 * one.attribution("one").voxels, rtol=1e-5)
        with pytest.raises(InputError, match="times of scaled gradient is 200: it must be 0 to 100"):
            method_of("scaled-gradient", times=200)
    finally:
        METHODS.pop("scaled-gradient", None)


def test_the_loader_of_the_documents_works_and_keeps_the_contract(tmp_path):
    source = block("loader")
    assert source.count("\n") <= 60
    names = {"__name__": "example"}
    exec(compile(source, "docs/extending.md", "exec"), names)
    rng = np.random.default_rng(0)
    path = tmp_path / "net.npz"
    np.savez(path, weight=rng.normal(size=(3, 1, 3, 3, 3)).astype(np.float32), bias=np.zeros(3, np.float32),
             labels=np.array(["background", "heart", "aorta"]))  # fmt: skip
    grid = Grid((20, 18, 16), np.diag([-2.0, 2.0, 2.5, 1.0]))
    scan = Volume(rng.normal(0, 300, grid.shape), grid)
    check_model(names["OneConvolution"](path), [scan], nothing=[Volume(np.full(grid.shape, -1000.0), grid)])
    registry.register(names["FORMAT"])
    try:
        write_volume(Volume(scan.voxels.astype(np.int16), grid), tmp_path / "ct.nii.gz")
        words = [
            "--model",
            path,
            "--out",
            tmp_path / "out",
            "--device",
            "cpu",
            "--method",
            "gradient",
            "--progress",
            "none",
        ]
        assert run("explain", tmp_path / "ct.nii.gz", *words) == 0
        assert Explanation.load(tmp_path / "out").labels == ("background", "heart", "aorta")
        assert run("explain", tmp_path / "ct.nii.gz", *words, "--overwrite", "--overlap", "0.5") == 2
    finally:
        del registry._FORMATS["one-convolution"]


def test_an_option_that_the_method_does_not_have_is_refused_with_its_own(small, tmp_path, capsys):
    image, model, _ = small
    words = ["explain", image, "--model", model, "--out", tmp_path / "out", "--progress", "none"]
    assert run(*words, "--method", "gradient", "--samples", 5) == 2
    assert "vanilla gradient has no option 'samples'; it has none" in capsys.readouterr().err
    assert run(*words, "--method", "smoothgrad", "--ridge", 1) == 2
    assert "SmoothGrad has no option 'ridge'; its options are samples, seed, sigma" in capsys.readouterr().err


@pytest.mark.parametrize("identifier", list(METHODS))
def test_every_request_goes_to_json_and_back(identifier):
    request = Request(method_of(identifier), classes=("a",), reduction="mean")
    again = Request.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again.method.resolved() == request.method.resolved()
    assert (again.classes, again.reduction, again.compute) == (request.classes, request.reduction, request.compute)
    assert again.identity == request.identity


def test_the_paper_is_a_preset():
    assert request_of("integrated-gradients", preset="paper").method == IntegratedGradients(20, "ends")
    shap = request_of("kernelshap", preset="paper").method
    assert shap == KernelSHAP(supervoxels="semantic", samples=200, estimator="captum", scope="scan")
    assert request_of("smoothgrad", preset="paper", samples=5).method == SmoothGrad(5)
    with pytest.raises(InputError, match="unknown preset"):
        request_of("gradient", preset="thesis")


def test_device_batch_and_classes_make_no_other_explanation():
    one = request_of("smoothgrad", device="cpu", batch_size=4, classes=("a",))
    assert one.identity == request_of("smoothgrad").identity
    for other in (request_of("smoothgrad", seed=1), request_of("smoothgrad", reduction="mean"), request_of("gradient")):
        assert other.identity != one.identity


def test_settings_of_the_first_version_are_known_again(small):
    old = {"method": "smoothgrad", "samples": 20, "sigma": 0.1, "path": "graded", "reduction": "sum", "seed": 0,
           "precision": "float32", "supervoxels": "semantic", "supervoxel_count": 512, "estimator": "regression",
           "scope": "window", "ridge": 0.0, "value": "logit", "layer": None}  # fmt: skip
    assert identity_of_settings(old) == request_of("smoothgrad").identity
    model = planned_identity(load_model(small[1]), request_of("smoothgrad"))
    assert difference(model, {**model, "settings": old}) == ""


def test_an_explanation_is_repeated_from_its_own_document(small, tmp_path):
    _, _, folder = small
    assert run("run", folder / "explanation.json", "--out", tmp_path / "again", "--progress", "none") == 0
    first, again = Explanation.load(folder), Explanation.load(tmp_path / "again")
    assert np.array_equal(first.attribution("one").voxels, again.attribution("one").voxels)
    assert (folder / "importance_long.csv").read_bytes() == (tmp_path / "again" / "importance_long.csv").read_bytes()
    assert first.document["settings"] == again.document["settings"]


def test_what_has_changed_since_is_said_and_refused_unless_asked(small, tmp_path, capsys):
    image, model, folder = small
    document = json.loads((folder / "explanation.json").read_text())
    copy = tmp_path / "ct.nii.gz"
    copy.write_bytes(image.read_bytes())
    document["image"]["path"] = "ct.nii.gz"
    request = tmp_path / "request.json"
    request.write_text(json.dumps(document))
    assert read_repeat(request).changes == ()
    moved = Volume(np.zeros((24, 20, 22), np.int16), Grid((24, 20, 22), np.diag([2.0, 2.0, 2.0, 1.0])))
    write_volume(moved, copy)
    assert run("run", request, "--out", tmp_path / "out", "--progress", "none") == 2
    assert "the scan has changed since" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run("run", request, "--out", tmp_path / "out", "--changed", "--progress", "none") == 0
    document["model"]["sha256"] = "0" * 64
    document["image"] = {**document["image"], "path": str(image)}
    request.write_text(json.dumps(document))
    assert run("run", request, "--model", model, "--out", tmp_path / "other", "--progress", "none") == 2
    assert "the model has changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 99}, "has format version 99, this Agg2Exp reads up to 1; update Agg2Exp"),
        ({"format": "recipe"}, "is neither an explanation.json nor a request file"),
        ({"format": "agg2exp-request", "settings": {"method": "magic"}}, "unknown method 'magic'"),
        ({"format": "agg2exp-request", "settings": {"method": "gradient", "samples": 3}}, "has no option 'samples'"),
        ({"settings": None}, "has no settings"),
        ({"image": {}}, "lacks 'path'"),
        ({"image": {"path": ""}}, "its scan was a volume in memory"),
        ({"image": {"path": "/nowhere/ct.nii.gz"}}, "the scan is no longer there"),
    ],
)
def test_a_file_that_cannot_be_repeated_is_one_sentence(small, tmp_path, capsys, change, words):
    document = {**json.loads((small[2] / "explanation.json").read_text()), **change}
    path = tmp_path / "request.json"
    path.write_text(json.dumps(document))
    assert run("run", path, "--out", tmp_path / "out", "--progress", "none") == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_json_is_one_sentence(tmp_path, capsys):
    (tmp_path / "request.json").write_text("{[")
    assert run("run", tmp_path / "request.json", "--out", tmp_path / "out") == 2
    assert "cannot be read as a request" in capsys.readouterr().err


def test_the_documents_table_of_options_is_the_methods_own():
    assert options_table().strip() in (DOCS / "methods.md").read_text(encoding="utf-8")
