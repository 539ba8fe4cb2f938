"""Training runs: the same weights whether interrupted or not, refusals that name the cause, a model folder that loads."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import Cancelled, InputError, OutputError
from Agg2ExpLib.models import load_model
from Agg2ExpLib.phantom import write_phantoms
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.training import TrainingSettings, train
from Agg2ExpLib.training.checkpoint import Run, keep_rows

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]

# The smallest Swin UNETR that MONAI builds, on voxels so coarse that one window holds half a chest.
SMALL = {
    "spacing": (12.0, 12.0, 12.0),
    "window": (64, 32, 32),
    "feature_size": 12,
    "depths": (1, 1, 1, 1),
    "heads": (1, 2, 4, 8),
    "attention_window": 4,
    "steps": 5,
    "batch_size": 1,
    "learning_rate": 1e-3,
    "warmup": 1,
    "average": 0.5,
    "checkpoint_every": 2,
    "validate_every": 3,
}
WORDS = ["--spacing", "12", "--window", "64,32,32", "--feature-size", "12", "--depths", "1", "--heads", "1,2,4,8",
         "--attention-window", "4", "--batch-size", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    write_phantoms(folder / "training", 2, seed=1, spacing=10.0)
    write_phantoms(folder / "validation", 1, seed=2, spacing=10.0)
    return folder


@pytest.fixture(autouse=True)
def every_step_is_logged(monkeypatch):
    for module in ("loop", "checkpoint"):
        monkeypatch.setattr(f"Agg2ExpLib.training.{module}.LOG_EVERY", 1)


def go(cases, where, progress=None, **changes):
    """Train in ``where`` / run, and return the model folder."""
    settings = TrainingSettings(**{**SMALL, **changes})
    return train(
        cases / "training", cases / "validation", where / "run", where / "model", settings, "cpu", progress=progress
    )


@pytest.fixture(scope="module")
def whole(cases, tmp_path_factory):
    """A run without any interruption."""
    where = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("loop", "checkpoint"):
            patch.setattr(f"Agg2ExpLib.training.{module}.LOG_EVERY", 1)
        go(cases, where)
    return where


def weights(model_folder):
    return load_model(model_folder).network.state_dict()


def rows(path):
    """Rows of a log, without the time, which no run repeats."""
    with path.open(newline="") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def assert_same_run(one, other):
    first, second = weights(one / "model"), weights(other / "model")
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    for log in ("log.csv", "validation.csv"):
        assert rows(one / "run" / log) == rows(other / "run" / log), log


class After:
    """Raises when the training has done so many steps."""

    def __init__(self, steps, error=Cancelled):
        self.steps, self.error = steps, error

    def __call__(self, event):
        if event.stage == "training" and event.kind == "progress" and event.done >= self.steps:
            raise self.error("stopped by the test")


def test_the_loss_falls_and_is_logged_with_the_learning_rate(whole):
    log = rows(whole / "run" / "log.csv")
    assert [int(row["step"]) for row in log] == [1, 2, 3, 4, 5]
    losses = [float(row["loss"]) for row in log]
    assert losses[-1] < losses[0] - 0.2
    assert [int(row["step"]) for row in rows(whole / "run" / "validation.csv")] == [3]


def test_a_run_stopped_in_every_way_goes_on_to_the_same_weights_and_logs(cases, whole, tmp_path, monkeypatch):
    """Each stop begins where the one before it left off; one end shows that none of them changed anything."""
    from Agg2ExpLib.training import loop

    run = tmp_path / "run"

    def stopped_after(steps, error, replaced=()):
        """Train until the error; return the step that this part of the training began with."""
        begun = []

        def watch(event):
            begun.extend([event.done] if event.stage == "training" else [])
            After(steps, error)(event)

        with monkeypatch.context() as patch, pytest.raises(error):
            for where, name, what in replaced:
                patch.setattr(where, name, what)
            go(cases, tmp_path, Progress(watch))
        assert not (tmp_path / "model").exists()
        return begun[0]

    def stops(*_):
        raise KeyboardInterrupt

    assert stopped_after(1, KeyboardInterrupt) == 0
    # Within a step: half of it is not saved.
    before = (run / "checkpoint.pt").read_bytes()
    assert stopped_after(9, KeyboardInterrupt, [(loop, "_average", stops)]) == 1
    assert (run / "checkpoint.pt").read_bytes() == before
    # A kill leaves logs beyond the checkpoint, half of the next one, and a half prepared case.
    real = Run.save
    saving = (Run, "save", lambda one: real(one) if one.step <= 2 else None)
    assert stopped_after(5, KeyboardInterrupt, [saving]) == 1
    (run / ".0a1b2c3d.partial").write_bytes((run / "checkpoint.pt").read_bytes()[:5000])
    prepared = next((run / "cache").iterdir())
    prepared.rename(prepared.with_name(f".{prepared.name}.partial"))
    assert len(rows(run / "log.csv")) > 2
    with (run / "log.csv").open("a") as stream:
        stream.write("5,2.")
    # While it validates, which is made up for.
    assert stopped_after(9, KeyboardInterrupt, [(loop, "validate", stops)]) == 2
    assert stopped_after(4, Cancelled) == 3
    go(cases, tmp_path)
    assert_same_run(whole, tmp_path)
    assert list(run.rglob(".*")) == []


def test_a_finished_run_only_writes_its_model_again(cases, whole, tmp_path):
    before = (whole / "run" / "checkpoint.pt").stat().st_mtime_ns
    settings = TrainingSettings(**SMALL)
    train(cases / "training", cases / "validation", whole / "run", tmp_path / "again", settings, "cpu")
    assert (whole / "run" / "checkpoint.pt").stat().st_mtime_ns == before
    first, again = weights(whole / "model"), weights(tmp_path / "again")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_other_settings_are_refused_with_their_names(cases, whole, tmp_path):
    with pytest.raises(InputError, match=r"made with other settings \(learning_rate, seed\); give the same ones"):
        train(cases / "training", cases / "validation", whole / "run", tmp_path / "model",
              TrainingSettings(**{**SMALL, "seed": 4, "learning_rate": 2e-3}), "cpu")  # fmt: skip
    write_phantoms(tmp_path / "other", 1, seed=8, spacing=10.0)
    with pytest.raises(InputError, match="the training cases"):
        train(
            tmp_path / "other",
            cases / "validation",
            whole / "run",
            tmp_path / "model",
            TrainingSettings(**SMALL),
            "cpu",
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "foreign"])
def test_a_damaged_checkpoint_is_a_clear_error(cases, whole, tmp_path, damage):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    good = (whole / "run" / "checkpoint.pt").read_bytes()
    checkpoint.write_bytes({"truncated": good[: len(good) // 2], "text": b"hello", "empty": b""}.get(damage, b""))
    if damage == "foreign":
        torch.save({"settings": json.dumps(TrainingSettings(**SMALL).to_dict()), "step": 2}, checkpoint)
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read .*; remove it to start anew"):
        go(cases, tmp_path)


def test_a_full_disk_keeps_the_old_checkpoint(cases, whole, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        go(cases, tmp_path, Progress(After(1, KeyboardInterrupt)))
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.pt: .*No space left.*another --run"):
            go(cases, tmp_path)
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert list((tmp_path / "run").rglob(".*")) == []


def test_torn_rows_and_rows_beyond_the_checkpoint_leave_the_log(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("step,loss\n25,2.0\n50,1.5\n75,1.2\n100")
    keep_rows(log, 60)
    assert log.read_text() == "step,loss\n25,2.0\n50,1.5\n"
    keep_rows(log, 0)
    assert not log.exists()
    keep_rows(log, 0)


def test_the_model_folder_loads_and_its_card_tells_how_it_was_made(cases, tmp_path, capsys):
    run = ["train", str(cases / "training"), "--validation", str(cases / "validation"), "--device", "cpu", *WORDS]
    first = [
        *run,
        "--out",
        str(tmp_path / "first"),
        "--run",
        str(tmp_path / "run1"),
        "--steps",
        "1",
        "--progress",
        "none",
    ]
    second = [*run, "--out", str(tmp_path / "second"), "--run", str(tmp_path / "run2"), "--steps", "1", "--seed", "3",
              "--start", str(tmp_path / "first"), "--focus", "trachea,thyroid_gland", "--class-weights", "root",
              "--name", "second", "--licence", "Apache-2.0", "--description", "A test.", "--progress", "json"]  # fmt: skip
    for words in (first, second):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["agg2exp", *words])
            assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"model written to {tmp_path / 'first'}"
    assert {json.loads(line)["stage"] for line in out[1:]} == {"preparing cases", "training", "validation"}
    model = load_model(tmp_path / "second")
    assert model.card.spacing == (12.0, 12.0, 12.0)
    assert model.card.window == (64, 32, 32)
    assert model.card.labels == THORAX_17
    assert (model.card.name, model.card.licence, model.card.description) == ("second", "Apache-2.0", "A test.")
    assert (tmp_path / "second" / "LICENSE").read_text().startswith("Apache-2.0")
    training = model.card.extra["training"]
    assert training["command"].startswith("agg2exp train ")
    assert "--focus trachea,thyroid_gland" in training["command"]
    assert (training["cases"], training["validation_cases"]) == (2, ["phantom_0002_0000"])
    assert list(training["validation_dice"]) == list(THORAX_17[1:])
    assert all(0 <= value <= 1 for value in training["validation_dice"].values())
    assert training["settings"]["start"] == str(tmp_path / "first")
    assert training["before"]["settings"]["seed"] == 0
    assert training["before"]["before"] is None
    readme = (tmp_path / "second" / "docs" / "README.md").read_text()
    assert readme.index("run1") < readme.index("run2")
    assert "| thyroid_gland | 0." in readme
    with torch.no_grad():
        assert model.network(torch.zeros(1, 1, 64, 32, 32)).shape == (1, 17, 64, 32, 32)


def test_training_begins_with_the_weights_of_the_model_it_starts_from(cases, whole, tmp_path):
    go(cases, tmp_path, start=str(whole / "model"), learning_rate=1e-12, steps=1, warmup=0, average=0.0)
    torch.testing.assert_close(weights(tmp_path / "model"), weights(whole / "model"), rtol=1e-4, atol=1e-7)
    with pytest.raises(InputError, match=r"is another architecture than the one to train .* leave --start out"):
        go(cases, tmp_path / "wider", start=str(whole / "model"), feature_size=24)


def test_a_class_in_no_validation_case_is_said_in_the_card(cases, tmp_path):
    """An absent class has no Dice; the card of a finished training must be written all the same."""
    folder = go(cases, tmp_path, labels=(*THORAX_17, "spleen"), steps=1, average=0.0)
    dice = load_model(folder).card.extra["training"]["validation_dice"]
    readme = (folder / "docs" / "README.md").read_text()
    assert dice["heart"] is not None
    # An untrained network may predict a class that is not there, which is a Dice of 0.
    assert dice["spleen"] in (None, 0.0)
    from Agg2ExpLib.training.cases import find_cases
    from Agg2ExpLib.training.record import model_readme, training_record

    held_out = find_cases(cases / "validation")
    record = training_record(TrainingSettings(), "", held_out, held_out, {"heart": 0.5, "spleen": float("nan")}, None)
    card = TrainingSettings().card(extra={"training": record})
    assert "mean over classes 0.500" in model_readme(card)
    assert "| spleen | in no validation case |" in model_readme(card)
    assert "nan" not in readme


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"feature_size": 10}, "multiple of 12"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"average": 1.0}, "average"),
        ({"balanced": 1.5}, "balanced"),
        ({"class_weights": "log"}, "use none or root"),
        ({"focus": ("liver",)}, "'liver', which is not among the labels"),
        ({"precision": "bfloat16"}, "use mixed or float32"),
        ({"seed": -1}, "seed is -1"),
        ({"warmup": -2}, "warmup is -2"),
        ({"weight_decay": -1.0}, "weight_decay is -1"),
        ({"window": (50, 64, 64)}, "divisible by 32"),
        ({"spacing": (0.0, 1.0, 1.0)}, "spacing"),
        ({"heads": (5, 5, 5, 5)}, "5 attention heads do not divide"),
        ({"depths": (2, 2)}, "give 4 numbers"),
        ({"labels": ("background", "heart", "heart")}, "heart"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_before_any_work(cases, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        go(cases, tmp_path, **changes)
    assert not list(tmp_path.glob("run/cache/*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "many"], "--steps 'many' is not a number"),
        (["--window", "64,32"], "--window '64,32' has 2 values; give 3"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--start", "nowhere"], "nowhere"),
        (["--labels", "missing.json"], "missing.json"),
        (["--out", "TAKEN"], "exists and is not a model folder"),
        (["--run", "FILE"], "choose another --run"),
    ],
)
def test_bad_options_are_one_sentence_with_exit_code_2(cases, tmp_path, capsys, words, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious.txt").write_text("mine")
    words = [word.replace("TAKEN", str(tmp_path / "taken")).replace("FILE", str(tmp_path / "taken" / "precious.txt"))
             for word in words]  # fmt: skip
    base = ["train", str(cases / "training"), "--validation", str(cases / "validation"), "--out", str(tmp_path / "out"),
            "--run", str(tmp_path / "run"), "--device", "cpu", "--progress", "none", *WORDS]  # fmt: skip
    assert main([*base, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_train_one_model(cases, tmp_path):
    """Torchrun on the CPU: each process draws its own patches, and only the first writes."""
    words = ["train", str(cases / "training"), "--validation", str(cases / "validation"), "--out", str(tmp_path / "model"),
             "--run", str(tmp_path / "run"), "--device", "cpu", "--progress", "json", "--steps", "3", "--checkpoint-every",
             "2", "--warmup", "1", *WORDS]  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, "-m", "Agg2ExpLib.cli", *words], cwd=ROOT, env=environment, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["done"] for event in events if event["stage"] == "training"] == [0, 0, 1, 2, 3]
    go(cases, tmp_path / "one", steps=3, average=0.0)
    both, alone = weights(tmp_path / "model"), weights(tmp_path / "one" / "model")
    assert all(torch.isfinite(tensor).all() for tensor in both.values())
    assert any(not torch.equal(both[name], alone[name]) for name in both)
    assert sorted(p.name.rsplit("_", 1)[0] for p in (tmp_path / "run" / "cache").iterdir()) == [
        "phantom_0001_0000",
        "phantom_0001_0001",
    ]
    assert np.isfinite(list(load_model(tmp_path / "model").card.extra["training"]["validation_dice"].values())).all()
