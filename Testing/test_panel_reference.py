"""Is this patient unusual? The panel against reference profiles, with the real scoring in the child process."""

import json
from dataclasses import replace

import numpy as np
import pytest

from Agg2ExpLib.panel.words.buttons import Facts, panel_state
from Agg2ExpLib.panel.words.verdicts import Verdicts, verdicts_of
from Testing.bench.fixtures import add_ct, read, turn
from Testing.bench.small_explanation import write_small_explanation
from Testing.test_panel import apply_and_wait


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Profiles of the small explanation's model: name -> file.

    ``alike`` surrounds the small explanation; in ``other`` the heart always looked at the aorta; ``samples`` is of other settings.
    """
    from Agg2ExpLib.cohort.judge.profile import fit_profile
    from Agg2ExpLib.cohort.table.tables import CohortTable
    from Agg2ExpLib.explanation import Explanation

    folder = tmp_path_factory.mktemp("references")
    one = CohortTable.of_explanation(Explanation.load(write_small_explanation(folder / "case", model="thorax-phantom")))
    count, rng = 24, np.random.default_rng(0)
    mass = np.repeat(one.values["mass"], count, axis=0) * rng.uniform(0.8, 1.25, (count, *one.values["mass"].shape[1:]))
    shifted = mass.copy()
    shifted[:, 0, one.rois.index("aorta")] += 0.5
    shifted[2:, 1] = np.nan
    nothing = np.full((count, len(one.classes)), np.nan)
    made = {}
    for name, values in (("alike", mass), ("other", shifted), ("samples", mass)):
        identity = json.loads(json.dumps(one.identity))
        if name == "samples":
            identity["settings"]["samples"] = 50
        table = replace(
            one,
            cases=tuple(f"case{n}" for n in range(count)),
            values={"mass": values / np.nansum(values, axis=2, keepdims=True), "enrichment": values},
            dice=nothing,
            surface_dice=nothing,
            volumes=np.repeat(one.volumes, count, axis=0),
            identity=identity,
        )
        made[name] = fit_profile(table).save(folder / f"{name}.npz")
    return made


@pytest.fixture
def opened(panel, tmp_path):
    """A panel that shows a small explanation."""
    panel.presenter.show_folder(write_small_explanation(tmp_path / "given", model="thorax-phantom"))
    panel.anomaly.frame.collapsed = False
    return panel


def compare(panel, profile):
    panel.reference.open(str(profile))
    assert turn(lambda: panel.task and not panel.task.running)
    return lines(panel)


def lines(panel):
    return [panel.anomaly.list.item(row).text() for row in range(read(panel.anomaly.list, "count"))]


def test_the_section_says_what_it_needs(panel):
    assert "reference profile" in read(panel.anomaly.message, "text")
    assert panel.anomaly.buttons["open profile"].isEnabled()
    assert "no explanation yet" in read(panel.anomaly.buttons["compare"], "toolTip")


def test_is_this_patient_unusual_takes_three_presses_with_the_reference_that_comes_with_the_model(panel, references):
    panel.reference.offer(references["alike"], {"identity": {"model": {"name": "thorax-phantom"}}})
    add_ct()
    assert apply_and_wait(panel).status == "done"
    panel.anomaly.frame.collapsed = False
    panel.anomaly.buttons["compare"].click()
    assert turn(lambda: not panel.task.running)
    assert {line.split(" (p")[0] for line in lines(panel)[:2]} == {"heart: usual", "aorta: usual"}


def test_a_usual_explanation_is_called_usual(opened, references, tmp_path):
    found = compare(opened, references["alike"])
    assert {line.split(" (p")[0] for line in found[:2]} == {"heart: usual", "aorta: usual"}
    assert found[2:] == ["trachea: too few reference cases"]
    told = "Against 24 reference cases, none of 2 structures is unusual; 0.1 are expected by chance."
    assert told in read(opened.anomaly.message, "text")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_unusual_structure_comes_first_with_its_percentile_and_its_reasons(opened, references):
    found = compare(opened, references["other"])
    assert found[0] == "heart: UNUSUAL (p 0.040), percentile 100"
    assert any(line.strip().startswith("relied") and "'aorta' (reference" in line for line in found)
    assert "aorta: too few reference cases" in found
    assert "1 of 1 structure is unusual; 0.0 are expected by chance" in read(opened.anomaly.message, "text")


def test_choosing_a_reason_shows_its_structure_and_region(opened, references):
    found = compare(opened, references["other"])
    opened.results.step(1)
    assert opened.shown.structure == "aorta"
    opened.anomaly.list.setCurrentRow(next(row for row, line in enumerate(found) if "'aorta' (reference" in line))
    assert opened.shown.structure == "heart"
    assert opened.results.table.chosen_region() == "aorta"
    assert "for heart lies in aorta" in read(opened.results.meaning, "text")


def test_a_profile_of_other_settings_is_refused_in_one_sentence(opened, references):
    assert compare(opened, references["samples"]) == []
    text = read(opened.anomaly.message, "text")
    assert "samples is 3 instead of 50" in text
    assert "\n" not in text
    assert opened.anomaly.buttons["compare"].isEnabled()


def test_what_is_no_profile_is_refused(opened, tmp_path):
    (tmp_path / "evil.npz").write_bytes(b"no profile")
    assert compare(opened, tmp_path / "evil.npz") == []
    assert "evil.npz" in read(opened.anomaly.message, "text")
    compare(opened, tmp_path / "gone.npz")
    assert "gone.npz" in read(opened.anomaly.message, "text")


def test_the_button_chooses_a_file_and_compares(opened, references, monkeypatch):
    import qt

    monkeypatch.setattr(
        qt.QFileDialog, "getOpenFileName", lambda *_: (str(references["alike"]), "Reference profiles (*.npz)")
    )
    opened.anomaly.buttons["open profile"].click()
    assert not opened.anomaly.buttons["compare"].isEnabled()
    assert turn(lambda: not opened.task.running)
    assert read(opened.anomaly.profile, "text") == "alike.npz"
    assert len(lines(opened)) == 3


def test_the_profile_is_remembered_and_read_only_when_it_is_asked_for(opened, references, settings, tmp_path):
    import slicer

    compare(opened, references["alike"])
    task = opened.task
    slicer.mrmlScene.Clear(0)
    assert settings.value("Agg2Exp/ReferenceProfile") == str(references["alike"])
    opened.presenter.show_folder(write_small_explanation(tmp_path / "second", model="thorax-phantom"))
    assert read(opened.anomaly.profile, "text") == "alike.npz"
    assert (lines(opened), opened.task) == ([], task)
    opened.anomaly.buttons["compare"].click()
    assert turn(lambda: opened.task is not task and not opened.task.running)
    assert len(lines(opened)) == 3


def test_a_saved_scene_shows_the_verdicts_again_without_computing(opened, references, settings, tmp_path):
    import slicer

    from Agg2ExpLib.scene.saving import save_scene
    from Testing.test_panel import open_scene

    add_ct()
    found = compare(opened, references["other"])
    said, task = read(opened.anomaly.message, "text"), opened.task
    save_scene(slicer.mrmlScene, tmp_path / "scene.mrb")
    slicer.mrmlScene.Clear(0)
    assert lines(opened) == []
    settings.setValue("Agg2Exp/ReferenceProfile", "")
    open_scene(tmp_path / "scene.mrb", tmp_path)
    assert lines(opened) == found
    assert (read(opened.anomaly.message, "text"), opened.task) == (said, task)
    assert opened.reference.profile == str(references["other"])


def test_verdicts_belong_to_their_explanation(opened, references, tmp_path):
    found = compare(opened, references["alike"])
    first = opened.shown.key
    (tmp_path / "another.nii").write_bytes(b"another scan")
    opened.presenter.show_folder(write_small_explanation(tmp_path / "other", tmp_path / "another.nii"))
    assert opened.shown.key != first
    assert lines(opened) == []
    opened.results.explanation.setCurrentIndex(opened.results.explanation.findData(first))
    assert lines(opened) == found


def test_a_script_gets_the_verdicts(module, settings, references, tmp_path):
    from Agg2ExpLib.panel.controllers.reference import verdicts_in

    logic = module.Agg2ExpLogic()
    shown = logic.openExplanation(write_small_explanation(tmp_path / "given", model="thorax-phantom"))
    found = logic.scoreAgainst(shown, references["other"])
    assert (found.verdicts[0].structure, found.verdicts[0].verdict) == ("heart", "unusual")
    assert verdicts_in(shown.anchor) == found
    told = []
    task = logic.scoreAgainst(shown.explanation.folder, references["other"], False, completedCallback=told.append)
    assert task.running
    assert turn(lambda: told)
    assert told == [found]
    with pytest.raises(RuntimeError, match="samples is 3 instead of 50"):
        logic.scoreAgainst(shown, references["samples"])


def test_no_comparison_while_something_runs_or_the_folder_is_gone():
    shown = Facts(shown=True, structure="heart", profile="/p.npz")
    assert panel_state(shown)["compare"].enabled
    assert not panel_state(replace(shown, job="explain"))["compare"].enabled
    assert "no longer where it was" in panel_state(replace(shown, computed_here=False))["compare"].reason
    assert "Open a reference" in panel_state(replace(shown, profile=""))["compare"].reason
    assert not panel_state(replace(shown, job="score"))["open profile"].enabled


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"verdicts": 3}', '{"verdicts": [{"structure": "x", "verdict": "bad"}]}']
)
def test_a_node_from_elsewhere_gives_no_verdicts(text):
    assert Verdicts.from_text(text) is None


@pytest.mark.parametrize("document", [None, {}, {"format": "agg2exp-scores", "scores": [{}]}])
def test_scores_that_cannot_be_read_are_told(document):
    from Agg2ExpLib.errors import InputError

    with pytest.raises(InputError, match="cannot be read"):
        verdicts_of(document, "p.npz")


def test_packages_for_scoring_are_asked_for_when_slicers_own_python_lacks_them(opened, settings, references, pip):
    settings.setValue("Agg2Exp/PythonExecutable", "")
    pip.hidden, pip.answer = {"scikit-learn"}, False
    opened.reference.open(str(references["alike"]))
    assert "scikit-learn>=1.5" in pip.asked[0]
    assert "you chose not to install" in read(opened.anomaly.message, "text")
    assert opened.task is None


def test_heat_map_and_graph_are_drawn_by_the_real_command_and_shown(opened, monkeypatch):
    shown = []
    monkeypatch.setattr("Agg2ExpLib.panel.views.show_picture", lambda _, path, title: shown.append((path.name, title)))
    assert opened.results.buttons["heat map"].isEnabled()
    opened.results.buttons["heat map"].click()
    assert not opened.results.buttons["whatif"].isEnabled()
    assert turn(lambda: not opened.task.running)
    assert opened.task.outcome.status == "done", opened.task.outcome
    assert (opened.shown.folder / "figures" / "heat_map_mass.svg").is_file()
    # Drawn already: the second button is only to find its picture among them.
    monkeypatch.setattr(opened.presenter, "draw_figures", lambda _shown, _out, then, _classes: then())
    opened.results.buttons["graph"].click()
    assert shown == [("heat_map_mass.png", "Heat map: heart"), ("graph_mass.png", "Graph: heart")]


def test_figures_are_exported_where_the_user_says(opened, tmp_path, monkeypatch):
    import qt

    from Agg2ExpLib.panel.controllers import export

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "out"))
    export.export(opened.presenter, opened.results, opened.shown, "figures")
    assert turn(lambda: not opened.task.running)
    assert opened.task.outcome.status == "done", opened.task.outcome
    assert {"heat_map_mass.png", "heat_map_mass.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert str(tmp_path / "out") in read(opened.results.line.label, "text")


def test_a_page_and_dicom_objects_are_asked_of_the_child_where_the_user_says(opened, tmp_path, monkeypatch):
    import qt

    from Agg2ExpLib.cli import main
    from Agg2ExpLib.panel.controllers import export

    asked = []
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *_: str(tmp_path / "page.html"))
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    monkeypatch.setattr(opened.desk, "run", lambda make, *_, needs: asked.append((make(), needs)))
    for kind in ("html", "dicom"):
        export.export(opened.presenter, opened.results, opened.shown, kind)
    (page, drawing), (objects, dicom) = asked
    assert (drawing, dicom) == ((("matplotlib>=3.10,<4",),), (("highdicom>=0.24",),))
    # The dialog has asked already whether to replace it.
    (tmp_path / "page.html").write_text("an older page")
    assert main(page.command[2:]) == 0
    assert "What the model looked at" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert main(objects.command[2:]) == 2  # Its scan is no DICOM series.
