"""Many patients from the panel: a batch is started, paused, killed, gone on with, and something is made of it."""

import os
import shutil

import pytest

from Agg2ExpLib.panel.words.batch import Request, Seen, look
from Agg2ExpLib.panel.words.batch_buttons import BatchFacts, batch_state
from Agg2ExpLib.panel.words.buttons import Facts, panel_state
from Testing.bench import warm
from Testing.bench.fixtures import add_ct, read, turn
from Testing.bench.small_explanation import AFFINE, scan


def write_cases(folder, *names):
    from Agg2ExpLib.volume import Grid, Volume, write_volume

    voxels = scan()
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        write_volume(Volume(voxels + 5 * number, Grid(voxels.shape, AFFINE)), folder / name / "ct.nii.gz")
    return folder


@pytest.fixture
def cases(tmp_path):
    return write_cases(tmp_path / "cases", "one", "two", "zthree")


@pytest.fixture
def ready(panel, cases, tmp_path):
    """A panel with cases and output folder chosen."""
    panel.batch_section.frame.collapsed = False
    panel.batch.choose(source=str(cases), out=str(tmp_path / "out"))
    return panel


def button(panel, name):
    return panel.batch_section.buttons[name]


def status(panel):
    return read(panel.batch_section.line.label, "text")


def lines(panel):
    table = panel.batch_section.table
    return [tuple(table.item(row, column).text() for column in (0, 1)) for row in range(read(table, "rowCount"))]


def run(panel):
    button(panel, "batch run").click()
    assert turn(lambda: not panel.batch.running)


def pause_at_the_second_case(panel, child, name="batch run"):
    child.does(stop_at="two")
    button(panel, "batch run").click()
    assert turn(lambda: panel.batch.running and (panel.batch._event.done, child.pid() > 0) == (1, True))
    assert read(button(panel, "batch run"), "text") == "Pause"
    button(panel, name).click()


def test_a_new_section_says_what_it_needs(panel):
    assert read(button(panel, "batch run"), "text") == "Start"
    assert "Choose a folder of cases" in read(button(panel, "batch run"), "toolTip")
    assert "No case is finished" in read(button(panel, "cohort report"), "toolTip")
    assert "No batch is running" in read(button(panel, "batch cancel"), "toolTip")


def test_a_batch_runs_to_its_end_with_the_reason_of_every_failure(panel, tmp_path):
    cases = write_cases(tmp_path / "cases", "bad", "fine", "good")
    panel.batch.choose(source=str(cases), out=str(tmp_path / "out"))
    run(panel)
    assert "2 of 3 cases finished, 1 failed" in status(panel)
    assert lines(panel)[0][0] == "bad"
    assert "is damaged; export it again" in lines(panel)[0][1]
    assert lines(panel)[1:] == [("fine", "done"), ("good", "done")]
    assert (tmp_path / "out" / "importance.parquet").is_file()
    assert "bad failed" in panel.log.content()


def test_failed_cases_are_tried_again_when_that_is_asked(panel, tmp_path):
    cases = write_cases(tmp_path / "cases", "bad")
    panel.batch.choose(source=str(cases), out=str(tmp_path / "out"))
    run(panel)
    begun = (tmp_path / "child" / "pid").stat().st_mtime_ns
    run(panel)
    assert (tmp_path / "child" / "pid").stat().st_mtime_ns == begun
    button(panel, "retry failed").click()
    assert turn(lambda: not panel.batch.running)
    assert (tmp_path / "child" / "pid").stat().st_mtime_ns > begun


def test_pause_stops_the_child_and_resume_goes_on_without_repeating(ready, child, tmp_path):
    pause_at_the_second_case(ready, child)
    assert read(button(ready, "batch run"), "text") == "Pausing …"
    assert turn(lambda: not ready.batch.running)
    assert not child.is_there()
    assert read(button(ready, "batch run"), "text") == "Resume"
    assert status(ready).startswith("Paused. 1 of 3 cases finished, 2 to go")
    first = (tmp_path / "out" / "parts" / "one.parquet").stat().st_mtime_ns
    child.does()
    run(ready)
    assert "3 of 3 cases finished" in status(ready)
    assert (tmp_path / "out" / "parts" / "one.parquet").stat().st_mtime_ns == first


def test_cancel_forgets_the_batch_and_keeps_what_is_finished(ready, child, tmp_path):
    pause_at_the_second_case(ready, child, "batch cancel")
    assert turn(lambda: not ready.batch.running)
    assert "1 finished cases stay" in status(ready)
    assert "Choose an output folder" in read(button(ready, "batch run"), "toolTip")
    ready.batch.choose(out=str(tmp_path / "out"))
    assert turn(lambda: read(button(ready, "batch run"), "text") == "Resume")


def test_a_child_killed_from_outside_is_told_and_the_batch_goes_on(ready, child):
    child.does(stop_at="two")
    button(ready, "batch run").click()
    assert turn(lambda: ready.batch._event.done == 1 and child.pid())
    os.kill(child.pid(), 9)
    assert turn(lambda: not ready.batch.running)
    assert "ended from outside or crashed" in status(ready)
    assert "press Resume to go on" in status(ready)
    child.does()
    run(ready)
    assert "3 of 3 cases finished" in status(ready)


@pytest.mark.parametrize("closing", ["reloaded", "started anew"])
def test_a_batch_survives_a_reload_and_a_restart(widget, ready, child, settings, tmp_path, closing):
    import slicer

    child.does(stop_at="two")
    button(ready, "batch run").click()
    assert turn(lambda: ready.batch._event.done == 1 and child.pid())
    ready.explain.samples.setValue(7)
    widget.onReload()
    assert turn(lambda: not child.is_there())
    panel = slicer.modules.Agg2ExpWidget.panel
    if closing == "started anew":
        # Even with the settings lost the folder alone suffices.
        settings.setValue("Agg2Exp/Batch", "")
        widget.onReload()
        panel = slicer.modules.Agg2ExpWidget.panel
        panel.batch.choose(out=str(tmp_path / "out"))
    assert turn(lambda: read(button(panel, "batch run"), "text") == "Resume")
    assert button(panel, "batch run").isEnabled()
    assert "20 samples" in read(panel.batch_section.settings, "text")
    child.does()
    run(panel)
    assert "3 of 3 cases finished" in status(panel)


def test_closing_the_scene_leaves_a_batch_at_work(ready, child):
    import slicer

    child.does(stop_at="two")
    button(ready, "batch run").click()
    assert turn(lambda: ready.batch._event.done == 1)
    slicer.mrmlScene.Clear(0)
    assert ready.batch.running
    add_ct()
    assert "pause it under Cohort" in read(ready.explain.apply, "toolTip")
    ready.batch.stop("pause")
    assert turn(lambda: not ready.batch.running)
    assert ready.explain.apply.isEnabled()


def test_a_folder_of_something_else_is_refused_before_anything_starts(ready, cases, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    ready.batch.choose(out=str(tmp_path / "mine"))
    assert "holds other files" in read(button(ready, "batch run"), "toolTip")
    assert not button(ready, "batch run").isEnabled()
    ready.batch.choose(source=str(tmp_path / "gone"), out=str(tmp_path / "out"))
    assert "no longer there" in read(button(ready, "batch run"), "toolTip")


def test_a_folder_without_cases_is_told_in_the_commands_sentence(panel, tmp_path):
    (tmp_path / "empty").mkdir()
    panel.batch.choose(source=str(tmp_path / "empty"), out=str(tmp_path / "out"))
    run(panel)
    assert "holds no case" in status(panel)
    assert read(button(panel, "batch run"), "text") == "Start"


def test_a_damaged_cohort_folder_is_told(ready, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cohort.json").write_text("{")
    ready.batch.choose(out=str(tmp_path / "broken"))
    assert turn(lambda: "cannot be read" in read(button(ready, "batch run"), "toolTip"))


def test_cases_and_folders_are_chosen_with_the_buttons(panel, cases, tmp_path, monkeypatch):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(cases))
    button(panel, "cases folder").click()
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "out"))
    button(panel, "batch output").click()
    assert (panel.batch.request.source, panel.batch.request.out) == (str(cases), str(tmp_path / "out"))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "t.csv"), ""))
    button(panel, "cases table").click()
    assert read(panel.batch_section.source, "text") == "t.csv"


def test_a_kept_case_is_shown_and_of_another_the_ct_is_chosen(ready):
    ready.batch_section.keep_box.setChecked(True)
    run(ready)
    assert not button(ready, "open case").isEnabled()
    ready.batch_section.table.setCurrentCell(1, 0)
    button(ready, "open case").click()
    assert ready.shown.folder.name == "two"
    shutil.rmtree(ready.shown.folder.parent / "zthree")
    ready.batch_section.table.setCurrentCell(2, 0)
    button(ready, "open case").click()
    assert turn(lambda: ready.inputs.ct_node() and ready.inputs.ct_node().GetName() == "zthree")
    assert "press Apply" in status(ready)


def test_a_report_is_opened_and_a_reference_fitted_and_used(ready, tmp_path, monkeypatch):
    import qt

    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    run(ready)
    button(ready, "cohort report").click()
    assert turn(lambda: opened)
    assert opened == [str(tmp_path / "out" / "report.html")]
    assert turn(lambda: not ready.task.running)
    button(ready, "cohort profile").click()
    assert turn(lambda: not ready.task.running)
    assert read(ready.anomaly.profile, "text") == "out-profile.npz"
    assert (tmp_path / "out" / "out-profile.npz").is_file()


def test_of_many_cases_the_failed_ones_are_listed_first_and_the_rest_counted(panel):
    from Agg2ExpLib.panel.words.batch import CaseState

    panel.batch_section.frame.collapsed = False
    many = [
        CaseState(f"c{number}", "failed" if number == 900 else "waiting", "" if number != 900 else "no")
        for number in range(1000)
    ]
    panel.batch_section.show_cases(Seen(tuple(many)))
    assert len(lines(panel)) == 200
    assert lines(panel)[0] == ("c900", "failed: no")
    assert "800 more" in read(panel.batch_section.more, "text")


def test_looking_at_a_large_folder_is_no_work_for_the_window(tmp_path):
    from Testing.cohort_samples import write_large_cohort

    folder = write_large_cohort(tmp_path / "large", 2000)
    seen = look(folder)
    assert len(seen.cases) == 2000
    # What the lines of the list need is known from then on: nothing of the folder is read again.
    shutil.rmtree(folder)
    assert [one.case for one in seen.listed(200)] == [f"patient{number:05d}" for number in range(200)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"workers": "x"}', '{"workers": 1, "choices": 3}'])
def test_a_request_from_elsewhere_is_none(text):
    assert Request.from_text(text) is None


def test_buttons_of_a_batch_say_why_they_cannot_be_pressed():
    assert "pause it first" in batch_state(BatchFacts(running=True, finished=5))["cohort report"].reason
    assert "at least 3" in batch_state(BatchFacts(finished=2))["cohort profile"].reason
    assert batch_state(BatchFacts(paused=True))["batch cancel"].enabled
    assert not batch_state(BatchFacts(busy="An explanation is being computed; wait for it."))["batch run"].enabled
    assert batch_state(BatchFacts(finished=2, failed=1))["batch run"].text == "Run again"
    assert "pause it" in panel_state(Facts(volume="ct", batch=True))["apply"].reason
    assert panel_state(Facts(volume="ct", batch=True, job="explain"))["apply"].enabled


def test_a_script_runs_a_real_cohort_and_scores_a_patient_against_it(module, settings, cases, tmp_path):
    from Testing.test_slicer_module import write_small_model

    settings.setValue("Agg2Exp/PythonExecutable", warm.program(tmp_path))
    logic, events = module.Agg2ExpLogic(), []
    model = str(write_small_model(tmp_path))
    write_cases(cases, "zz four")
    found = logic.runCohort(
        cases, tmp_path / "out", model=model, method="gradient", keepExplanations=True, progressCallback=events.append
    )
    assert (found["finished"], found["failed"], found["waiting"]) == (4, 0, 0)
    assert [event.done for event in events][-1] == 4
    profile = logic.fitProfile(tmp_path / "out", tmp_path / "p.npz")
    shown = logic.openExplanation(tmp_path / "out" / "explanations" / "one")
    scored = logic.scoreAgainst(shown, profile, falseAlarms=0.3)
    assert scored.false_alarms == 0.3
    name = next(one.structure for one in scored.verdicts if one.plotted)
    chart = logic.scoreReferencePlot(shown, name)
    assert chart.GetNumberOfPlotSeriesNodes() == 3


def test_a_script_is_told_why_a_cohort_cannot_be_run(module, settings, tmp_path):
    from Agg2ExpLib.errors import InputError

    logic = module.Agg2ExpLogic()
    with pytest.raises(InputError, match="at least one structure"):
        logic.runCohort(tmp_path, tmp_path / "out", structures=[])
    with pytest.raises(RuntimeError, match="holds no case"):
        (tmp_path / "empty").mkdir()
        logic.runCohort(tmp_path / "empty", tmp_path / "out")
