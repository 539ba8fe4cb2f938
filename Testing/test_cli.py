import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.cli import main
from Agg2ExpLib.models.bundle import write_model_folder
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.phantom import write_phantoms
from Testing.bench import warm

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("cases"), 1, seed=9, spacing=8.0)[0]


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8], "strides": [2]}
    card = ModelCard(
        name="small",
        labels=("background", "one", "two"),
        spacing=(8.0, 8.0, 8.0),
        window=(16, 16, 16),
        architecture={"name": "UNet", "arguments": arguments},
    )
    folder = tmp_path_factory.mktemp("models") / "small"
    return write_model_folder(folder, UNet(**arguments).state_dict(), card)


def run(*words):
    return main([str(word) for word in words])


def test_explain_prints_the_table_and_where_the_files_are(case, small_model, tmp_path, capsys):
    code = run("explain", case / "ct.nii.gz", "--model", small_model, "--out", tmp_path / "out", "--method", "gradient",
               "--progress", "none")  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "RoI importance" in out
    assert str(tmp_path / "out") in out
    assert run("show", tmp_path / "out") == 0
    assert "RoI importance" in capsys.readouterr().out


def test_json_progress_is_one_object_a_line_and_nothing_else(case, small_model, tmp_path, capsys):
    assert run("explain", case / "ct.nii.gz", "--model", small_model, "--out", tmp_path / "out", "--method", "gradient",
               "--progress", "json") == 0  # fmt: skip
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["stage"] for event in events} >= {"segmentation", "attributions"}
    last = [event for event in events if event["stage"] == "attributions"][-1]
    assert last["done"] == last["total"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.nii.gz"], "missing.nii.gz"),
        (["CASE", "--classes", "on"], "did you mean one"),
        (["CASE", "--method", "magic"], "unknown method"),
        (["CASE", "--model", "nowhere"], "nowhere"),
        (["CASE", "--roi", "x"], "NAME=FILE"),
        (["CASE", "--roi", "x=missing.nii.gz"], "missing.nii.gz"),
        (["CASE", "--window", "a"], "--window"),
        (["CASE", "--device", "gpu"], "unknown device"),
        (["CASE", "--samples", "0"], "samples"),
    ],
)
def test_bad_input_is_one_sentence_with_exit_code_2(case, small_model, tmp_path, capsys, words, message):
    words = [case / "ct.nii.gz" if word == "CASE" else word for word in words]
    model = [] if "--model" in words else ["--model", small_model]
    assert run("explain", *words, *model, "--out", tmp_path / "out", "--progress", "none") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_label_count_mismatch_names_both_counts(case, small_model, tmp_path, capsys):
    (tmp_path / "labels.json").write_text('["background", "one"]')
    assert run("explain", case / "ct.nii.gz", "--model", small_model, "--labels", tmp_path / "labels.json", "--out",
               tmp_path / "out") == 2  # fmt: skip
    error = capsys.readouterr().err
    assert "2" in error
    assert "3" in error


def test_ctrl_c_midway_leaves_nothing_and_says_so(case, small_model, tmp_path):
    # Enough samples that the work cannot be done before the signal arrives.
    command = [*warm.python(), str(ROOT / "Agg2ExpLib" / "cli" / "__main__.py"), "explain", str(case / "ct.nii.gz"), "--model",
               str(small_model), "--out", str(tmp_path / "out"), "--samples", "50000", "--progress", "json"]  # fmt: skip
    # Where tests run in the background this signal may be ignored, which children would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    with process:
        for line in process.stdout:
            if json.loads(line)["stage"] == "attributions":
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        error = process.stderr.read()
    assert process.returncode == 130, error
    assert error.strip() == "agg2exp: cancelled; nothing incomplete was left behind"
    assert list(tmp_path.iterdir()) == []


def test_phantom_command_writes_cases(tmp_path, capsys):
    assert (
        run(
            "phantom",
            "--out",
            tmp_path,
            "--count",
            2,
            "--spacing",
            10,
            "--finding",
            "nodule:0.9:left",
            "--progress",
            "none",
        )
        == 0
    )
    assert "2 cases" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*/findings/nodule.nii.gz"))) == 2
    assert run("phantom", "--out", tmp_path, "--finding", "plague") == 2
    assert "unknown finding" in capsys.readouterr().err


def test_the_bundled_model_explains_one_structure_of_a_phantom(case, tmp_path):
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.request import request_of
    from Agg2ExpLib.volume import Grid, Volume, read_volume

    # The heart and what is around it, of the size of one window.
    whole = read_volume(case / "ct.nii.gz")
    corner = np.array([9, 5, 6])
    i, j, k = corner
    affine = whole.grid.affine.copy()
    affine[:3, 3] = (affine @ [*corner, 1])[:3]
    scan = Volume(whole.voxels[i : i + 24, j : j + 24, k : k + 24], Grid((24, 24, 24), affine))
    request = request_of(method="gradient", classes=("heart",), device="cpu")
    found = explain(scan, "thorax-phantom", tmp_path / "out", request)
    mass = found.importance.matrix("mass")[0]
    assert mass[:17].sum() == pytest.approx(1.0)
    assert np.isfinite(found.document["classes"][0]["objective"])


def test_version_starts_at_once(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("agg2exp 0.")


def test_an_early_end_leaves_its_sentence_on_a_line_of_its_own(case, small_model, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert run("phantom", "--out", tmp_path / "taken", "--spacing", 12) == 2
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("agg2exp: ")


@pytest.mark.parametrize(
    "words", [("show", "x" * 300), ("explain", "x" * 300, "--out", "o"), ("explain", "CASE", "--out", "x" * 300)]
)
def test_a_name_that_is_too_long_is_one_sentence(case, small_model, tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    words = [str(case / "ct.nii.gz") if word == "CASE" else word for word in words]
    assert run(*words, *(["--model", small_model] if words[0] == "explain" else [])) == 2
    assert "name too long" in capsys.readouterr().err.lower()


def test_the_current_folder_cannot_be_the_output(case, small_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("explain", case / "ct.nii.gz", "--model", small_model, "--out", ".", "--progress", "none") == 2
    assert "is the folder you are in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_memory_that_is_full_is_one_sentence(monkeypatch, capsys):
    def full(options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("Agg2ExpLib.cli.models._list", full)
    assert main(["models"]) == 2
    assert "not enough memory" in capsys.readouterr().err


def test_a_report_of_a_cohort_offers_no_options_of_an_explanation(capsys):
    with pytest.raises(SystemExit):
        main(["cohort", "report", "--help"])
    told = capsys.readouterr().out
    assert "usage: agg2exp cohort report" in told
    assert "--group" in told
    assert "--method " not in told
    assert "--samples" not in told
    with pytest.raises(SystemExit):
        main(["cohort", "--help"])
    told = capsys.readouterr().out
    assert "--method" in told
    assert "--group" not in told
