"""Sample data: what the extension brings along for Slicer's Sample Data module, so that results can be seen with no torch."""

import hashlib
import shutil
from pathlib import Path
from urllib.request import url2pathname

import numpy as np
import pytest

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.panel import samples
from Testing.bench.fixtures import add_findings, paint, read, turn

ROOT = Path(__file__).resolve().parents[1]
RESOURCES = ROOT / "Agg2Exp" / "Resources"
SAMPLE = RESOURCES / samples.FOLDER


@pytest.fixture
def listed(bench_scene, monkeypatch):
    """What the Sample Data module lists, in the place where Slicer keeps it; nothing yet."""
    import slicer

    found = {}
    monkeypatch.setattr(slicer.modules, "sampleDataSources", found, raising=False)
    return found


@pytest.fixture(autouse=True)
def _only_the_tests_widget(bench_scene, monkeypatch):
    """Slicer's own widget of the module, made when it is first selected, would take the place of a test's."""
    import slicer.util

    monkeypatch.setattr(slicer.util, "selectModule", lambda name: None)


@pytest.fixture
def offered(listed, module):
    """What the Sample Data module lists after the module has registered."""
    module.registerSampleData()
    module.registerSampleData()
    found = listed[samples.CATEGORY]
    assert len(found) == 2
    return {one.sampleName: one for one in found}


def test_two_samples_are_offered_once_each_with_a_picture(offered):
    assert set(offered) == {samples.CT_NAME, samples.EXPLAINED_NAME}
    for one in offered.values():
        assert Path(one.thumbnailFileName).read_bytes().startswith(b"\x89PNG")


def test_the_ct_is_a_file_of_the_extension_whose_checksum_is_right(offered):
    source = offered[samples.CT_NAME]
    path = Path(url2pathname(source.uris[0].removeprefix("file://")))
    assert path.is_relative_to(RESOURCES)
    assert source.checksums == ["SHA256:" + hashlib.sha256(path.read_bytes()).hexdigest()]
    assert source.customDownloader is None


def test_registering_waits_for_the_end_of_slicers_start(module, monkeypatch):
    import slicer

    heard, application = [], slicer.app

    class Listening:
        """The application, which PythonQt does not let change, but for one method."""

        def __getattr__(self, name):
            return getattr(application, name)

        def connect(self, *given):
            heard.append(given)

    class Parent:
        path = module.__file__

    monkeypatch.setattr(slicer, "app", Listening())
    module.Agg2Exp(Parent())
    from Agg2ExpLib.panel import views

    assert heard == [("startupCompleted()", one) for one in (module.registerSampleData, views.add_layout)]


def test_an_extension_without_samples_offers_none(listed, tmp_path):
    samples.register(tmp_path, print)
    assert listed == {}


def test_pressing_the_explained_sample_shows_its_results_in_the_panel_at_once(offered, widget, settings, tmp_path):
    panel = widget.panel
    offered[samples.EXPLAINED_NAME].customDownloader(offered[samples.EXPLAINED_NAME])
    assert panel.shown.structure in panel.shown.explained
    rows = {row.name: row for row in panel.results.table.rows}
    assert {"pleural effusion", "lung nodule"} <= set(rows)
    assert rows["heart"].share > 0
    assert panel.shown.folder.parent == tmp_path / "results"
    assert not panel.shown.problem
    assert panel.inputs.ct_node() is panel.shown.ct_node
    assert panel.task is None


def test_the_sample_is_compared_with_healthy_phantoms_and_their_cohort_is_listed_with_nothing_computed(
    offered, widget, settings, tmp_path
):
    panel = widget.panel
    assert read(panel.anomaly.profile, "text") == "60-healthy-phantoms.npz"
    offered[samples.EXPLAINED_NAME].customDownloader(offered[samples.EXPLAINED_NAME])
    assert panel.task is None
    lines = [panel.anomaly.list.item(line).text() for line in range(read(panel.anomaly.list, "count"))]
    assert [line for line in lines if line.startswith("heart: usual")]
    assert "Against 60 reference cases" in read(panel.anomaly.message, "text")
    assert panel.anomaly.picture.isVisibleTo(panel.anomaly.frame)
    assert turn(lambda: read(panel.batch_section.table, "rowCount") == 20)
    assert "20 of 20 cases finished" in read(panel.batch_section.line.label, "text")
    assert panel.batch_section.buttons["cohort report"].isEnabled()
    panel.batch.choose(source=str(tmp_path))
    assert panel.batch.request.out == "", "one's own cases are not put to the sample's"


def test_the_reference_of_the_sample_is_not_taken_for_another_models(offered, widget, settings, monkeypatch):
    panel = widget.panel
    offered[samples.EXPLAINED_NAME].customDownloader(offered[samples.EXPLAINED_NAME])
    monkeypatch.setattr(type(panel.shown), "model_name", "another")
    panel.reference.show()
    assert panel.reference.profile == ""


def test_the_scores_of_the_sample_are_those_of_its_profile():
    from Agg2ExpLib.cohort.judge.profile import Profile
    from Agg2ExpLib.cohort.judge.scoring import score_table
    from Agg2ExpLib.cohort.table.tables import CohortTable

    path, scores = samples.reference(RESOURCES)
    table = CohortTable.of_explanation(Explanation.load(SAMPLE))
    fresh = score_table(Profile.load(path), table, reasons_for=0, with_baselines=False)
    assert {one["class"]: pytest.approx(one["score"]) for one in scores["scores"]} == {
        one.name: one.score for one in fresh
    }
    assert len(CohortTable.read(RESOURCES / samples.COHORT).cases) == 20


def test_the_sample_is_asked_what_if_with_the_bundled_model():
    pytest.importorskip("torch")
    from Agg2ExpLib.whatif import explained_model

    assert explained_model(Explanation.load(SAMPLE), None).card.name == "thorax-phantom"


def test_regions_are_painted_on_the_sample_and_read_without_a_network(offered, widget, settings):
    panel = widget.panel
    offered[samples.EXPLAINED_NAME].customDownloader(offered[samples.EXPLAINED_NAME])
    findings = add_findings()
    panel.inputs.regions.setCurrentNode(findings)
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[10:30, 10:30, 10:30] = True
    paint(findings, "mine", mask)
    assert turn(lambda: "mine" in {row.name for row in panel.results.table.rows})


def test_a_script_opens_the_sample_without_a_panel(module, settings):
    shown = module.Agg2ExpLogic().openSample()
    assert shown.classes == Explanation.load(SAMPLE).explained
    assert shown.table_node.GetNumberOfRows() > 0


def test_the_samples_own_folder_is_never_written_to_and_copied_once(settings, tmp_path):
    results = tmp_path / "results"
    copy = samples.own_copy(RESOURCES, results)
    (copy / "figures").mkdir()
    assert samples.own_copy(RESOURCES, results) == copy
    assert (copy / "figures").is_dir()
    assert [path.name for path in results.iterdir()] == [copy.name]


def test_a_sample_of_another_version_is_copied_beside_the_earlier_one(tmp_path):
    first = samples.own_copy(RESOURCES, tmp_path / "results")
    shutil.copytree(SAMPLE, tmp_path / "newer" / samples.FOLDER)
    document = tmp_path / "newer" / samples.FOLDER / "explanation.json"
    document.write_text(document.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert samples.own_copy(tmp_path / "newer", tmp_path / "results") != first


def test_a_sample_that_cannot_be_copied_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target, **_):
        Path(target).mkdir(exist_ok=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OutputError, match=r"No space left.*choose another folder for results"):
        samples.own_copy(RESOURCES, tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []


def test_an_incomplete_sample_is_told(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        samples.own_copy(tmp_path, tmp_path / "results")


def test_the_sample_is_small_complete_and_names_no_place_of_the_machine_that_made_it():
    found = Explanation.load(SAMPLE)
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 9e6
    assert {"pleural_effusion", "nodule"} == set(found.regions)
    assert found.document["image"]["path"] == found.document["model"]["path"] == ""
    texts = [text for text in _texts(found.document) if text.startswith(("/", "\\")) or ":\\" in text]
    assert texts == []


def test_the_sample_was_made_with_the_bundled_model():
    from Agg2ExpLib.models import bundled_models
    from Agg2ExpLib.models.bundle import weights_file
    from Agg2ExpLib.volume import file_sha256

    found = Explanation.load(SAMPLE).document["model"]
    bundled = file_sha256(weights_file(bundled_models()[found["name"]]))
    assert found["sha256"] == bundled, "run Resources/SampleData/make_sample.py: the bundled model is another one now"


def test_the_samples_tables_are_those_of_its_attributions():
    found = Explanation.load(SAMPLE)
    prediction = found.model_prediction().voxels
    assert len(found.explained) > 1
    for name in found.explained:
        strength = np.abs(found.attribution(name).voxels)
        inside = prediction == found.labels.index(name)
        row = found.importance.classes.index(name)
        told = found.importance.matrix("mass")[row, found.importance.rois.index(name)]
        assert strength[inside].sum() / strength.sum() == pytest.approx(told, rel=1e-3)


def test_rounding_keeps_what_can_be_kept_and_its_example_is_right():
    import doctest
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "Resources" / "SampleData" / "make_sample.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert doctest.testmod(maker).failed == 0
    values = np.random.default_rng(0).normal(0, 3, 1000).astype(np.float32)
    assert np.abs(maker.rounded(values) / values - 1).max() <= 2.0**-7
    assert maker.rounded(np.float32([0.0]))[0] == 0.0


def _texts(thing):
    if isinstance(thing, dict):
        return [text for value in thing.values() for text in _texts(value)]
    if isinstance(thing, list):
        return [text for value in thing for text in _texts(value)]
    return [thing] if isinstance(thing, str) else []
