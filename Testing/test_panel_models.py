"""Models in the panel: several volumes for several channels, and what a file does not say is asked before it is used."""

import numpy as np
import pytest

from Testing.bench.fixtures import add_ct, read, turn


@pytest.fixture
def panel(bench_scene, tmp_path, monkeypatch, request):
    """A panel whose user has no models yet."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    return request.getfixturevalue("widget").panel


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory):
    """A folder of nnU-Net with a network of T1 and FLAIR; the first window takes all of the bench's scan."""
    pytest.importorskip("torch")
    from Testing.small_nnunet import plans, write_folder

    plan = plans({"normalization_schemes": ["ZScoreNormalization"] * 2}, channels=2)
    return write_folder(tmp_path_factory.mktemp("channels") / "Dataset003_MR", plan, channels=("T1", "FLAIR"))


def choose(panel, model):
    from Agg2ExpLib.models.listing import add_model

    add_model(str(model), "two", mirroring="off")
    panel.inputs.take_added("two")


def reason(panel):
    return read(panel.explain.reason, "text")


def move(node, millimetres):
    import slicer.util

    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    node.GetIJKToRASMatrix(matrix)
    matrix.SetElement(0, 3, matrix.GetElement(0, 3) + millimetres)
    node.SetIJKToRASMatrix(matrix)


def test_each_channel_has_its_list_of_volumes_and_all_go_to_the_command(panel, two_channels, child, tmp_path):
    assert [box.isVisible() for box in panel.inputs.volumes] == [True, False, False, False]
    choose(panel, two_channels)
    labels = [read(label, "text") for label in panel.inputs._volume_labels if label.isVisible()]
    assert labels == ["T1 volume", "FLAIR volume"]
    first, second = add_ct("t1"), add_ct("flair")
    panel.inputs.volume.setCurrentNode(first)
    assert "takes T1, FLAIR; choose the FLAIR volume" in reason(panel)
    panel.inputs.volumes[1].setCurrentNode(first)
    assert "t1 is chosen as T1 and as FLAIR" in reason(panel)
    move(second, 5.0)
    panel.inputs.volumes[1].setCurrentNode(second)
    assert "FLAIR (flair) lies on another grid than T1 (t1)" in reason(panel)
    assert not panel.explain.apply.isEnabled()
    move(second, -5.0)
    panel.refresh()
    assert panel.explain.apply.isEnabled(), reason(panel)
    panel.explain.structures.all.click()
    panel.explain.estimate.click()
    assert turn(lambda: panel.task and not panel.task.running)
    task = child.task()
    assert [path.rpartition("/")[2] for path in task["arguments"][:2]] == ["t1.nii", "flair.nii"]
    assert (task["scan"]["name"], [one["name"] for one in task["other_scans"]]) == ("t1", ["flair"])
    explained_by_the_command(task, tmp_path / "out")
    panel.inputs.choose_model("thorax-phantom")
    assert [box.isVisible() for box in panel.inputs.volumes] == [True, False, False, False]


def explained_by_the_command(task, out):
    """Do what the child is asked for, with the command itself; the files are those that the panel handed over."""
    import json

    from Agg2ExpLib.cli import main
    from Agg2ExpLib.explanation import Explanation

    kept = [word for word in task["arguments"] if not word.startswith(("--method", "--samples", "--seed"))]
    file = out.with_name("task.json")
    changed = {**task, "command": "explain", "arguments": [*kept, f"--out={out}", "--method=gradient"]}
    file.write_text(json.dumps(changed))
    assert main(["task", str(file)]) == 0
    document = Explanation.load(out).document
    entries = [document["image"], *document["other_channels"]]
    assert [entry["origin"]["name"] for entry in entries] == ["t1", "flair"]
    explained = [entry for entry in document["classes"] if entry["status"] == "explained"]
    assert explained and all(set(entry["channels"]) == {"T1", "FLAIR"} for entry in explained)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "swin.pt"
    path.write_bytes(b"weights and nothing else")
    return path


SAID = {
    "labels": "background, heart, aorta",
    "spacing": "1.5",
    "window": "96, 96, 64",
    "intensity_range": "-1024, 1024",
}


def test_a_bare_checkpoint_is_asked_about_and_nothing_is_guessed(panel, weights, child):
    form = panel.inputs.form
    assert not form.frame.isVisible()
    panel.inputs.add_model(str(weights))
    assert form.frame.isVisible()
    assert list(form.fields.widgets) == list(SAID)
    for name, value in SAID.items():
        form.use.click()
        assert "nothing is guessed" in read(form.line.label, "text")
        assert read(form.fields.widgets[name], "accessibleName") in read(form.line.label, "text")
        assert panel.task is None
        form.fields.widgets[name].setText(value)
    form.use.click()
    assert turn(lambda: panel.task and not panel.task.running)
    assert panel.task.outcome.status == "done", panel.task.outcome
    task = child.task()
    said = ["--labels=background,heart,aorta", "--spacing=1.5", "--window=96,96,64", "--intensity-range=-1024,1024"]
    assert (task["command"], task["arguments"][0]) == ("model add", str(weights))
    assert set(said) <= set(task["arguments"])
    assert not form.frame.isVisible()
    assert panel.inputs.model_source == panel.parameters.choices().model == "swin"
    assert panel.explain.structures.labels_of({"heart", "aorta"}) == ["heart", "aorta"]


def test_wrong_weights_are_refused_where_they_are_added_and_before_any_scan_is_read(panel, weights, child):
    child.does(
        refuse=f"{weights}: this is not a Swin UNETR checkpoint; give the whole folder. Details: none with out.weight"
    )
    panel.inputs.add_model(str(weights))
    for name, value in SAID.items():
        panel.inputs.form.fields.widgets[name].setText(value)
    panel.inputs.form.use.click()
    assert turn(lambda: panel.task and not panel.task.running)
    assert "not a Swin UNETR checkpoint" in read(panel.inputs.form.line.label, "text")
    assert child.task()["scan"] is None
    assert panel.inputs.model_source == "thorax-phantom"


def test_a_checkpoint_that_an_earlier_version_took_unasked_is_not_used(panel, weights):
    panel.desk.settings.add_model(weights)
    panel.inputs.refill_models(str(weights))
    panel.inputs.changed.emit()
    add_ct()
    panel.refresh()
    assert "swin.pt does not say how its network is used" in reason(panel)


def test_a_model_is_added_by_name_too(panel, child):
    child.does(refuse="totalsegmentator:total: weights of Dataset 291 are missing")
    panel.inputs.form.open()
    panel.inputs.form.use.click()
    assert "Name a file" in read(panel.inputs.form.line.label, "text")
    panel.inputs.form.source.setText("totalsegmentator:total")
    panel.inputs.form.use.click()
    assert turn(lambda: panel.task and not panel.task.running)
    assert child.task()["arguments"][0] == "totalsegmentator:total"
    assert "Dataset 291" in read(panel.inputs.form.line.label, "text")
