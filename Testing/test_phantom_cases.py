"""Phantoms as data: the scanner's noise and blur, repeatability, spacing, the folders written and the command."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from Agg2ExpLib.anatomy import THORAX_17
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import Cancelled, InputError, OutputError
from Agg2ExpLib.phantom import Finding, make_phantom, write_phantoms
from Agg2ExpLib.phantom.generator import _scan
from Agg2ExpLib.phantom.patient import Patient
from Agg2ExpLib.phantom.shapes import Canvas
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.volume import read_volume

ROOT = Path(__file__).resolve().parents[1]


def scanned(hu, patient, spacing=1.0):
    size = np.full(3, spacing)
    canvas = Canvas(hu.shape, size, np.zeros(3), patient.placement)
    canvas.hu[:] = hu
    return _scan(canvas, patient, 0, 0).astype(float)


def test_the_scanner_adds_the_noise_of_the_patient_in_grains_not_in_single_voxels():
    patients = sorted((Patient.draw(3, index) for index in range(12)), key=lambda one: one.noise)
    for patient in (patients[0], patients[-1]):
        flat = scanned(np.full((40, 40, 40), 40.0), patient)
        assert flat.std() == pytest.approx(patient.noise, rel=0.05)
        assert flat.mean() == pytest.approx(40.0, abs=1.0)
        neighbours = np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]
        far = np.corrcoef(flat[:-8].ravel(), flat[8:].ravel())[0, 1]
        assert neighbours > 0.3
        assert abs(far) < 0.05
        thick = scanned(np.full((40, 40, 40), 40.0), patient, spacing=4.0)
        assert thick.std() < 0.6 * flat.std()


def test_the_scanner_blurs_an_edge_by_its_point_spread():
    patient = Patient.draw(3, 0)
    edge = np.zeros((41, 24, 24))
    edge[20:] = 1000.0
    profile = scanned(edge, patient, 0.5).mean(axis=(1, 2))
    slope = np.diff(profile).clip(0)
    where = np.arange(len(slope)) - np.average(np.arange(len(slope)), weights=slope**2)
    near = np.abs(where) < 6
    width = 0.5 * np.sqrt(np.average(where[near] ** 2, weights=slope[near]))
    assert width == pytest.approx(patient.blur, rel=0.15)


def digest(phantom):
    return hashlib.sha256(phantom.image.voxels.tobytes() + phantom.labels.voxels.tobytes()).hexdigest()


def test_a_patient_is_the_same_bit_by_bit_whenever_and_wherever_it_is_generated():
    first = [digest(make_phantom(4, index, 10.0)) for index in range(3)]
    again = [digest(make_phantom(4, index, 10.0)) for index in (2, 0)]
    assert again == [first[2], first[0]]
    code = (
        "import hashlib; from Agg2ExpLib.phantom import make_phantom; p = make_phantom(4, 1, 10.0);"
        "print(hashlib.sha256(p.image.voxels.tobytes() + p.labels.voxels.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == first[1]
    assert len(set(first)) == 3


@pytest.mark.parametrize("spacing", [9.0, (4.0, 5.0, 7.5)])
def test_the_spacing_asked_is_the_spacing_given(spacing):
    one = make_phantom(0, 0, spacing)
    np.testing.assert_allclose(np.diag(one.image.grid.affine)[:3], np.broadcast_to(spacing, 3))
    assert one.image.grid.same_as(one.labels.grid)
    np.testing.assert_allclose(np.array(one.image.shape) * spacing, (336, 258, 300), atol=8)
    assert one.image.voxels.dtype == np.int16
    assert one.labels.voxels.dtype == np.uint8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed -1 and index 0 of a phantom must not be negative"),
        ({"index": -3}, "index -3"),
        ({"spacing": 0.0}, "phantom spacing 0 mm: use 0.5 to 10 mm"),
        ({"spacing": -2.0}, "phantom spacing -2 mm"),
        ({"spacing": 50.0}, "phantom spacing 50 mm"),
        ({"spacing": float("nan")}, "phantom spacing nan mm"),
        ({"spacing": (1.0, 2.0)}, "give one number or three"),
    ],
)
def test_numbers_that_make_no_phantom_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_phantom(**arguments)


def test_a_case_folder_holds_what_was_generated(tmp_path):
    findings = [Finding("nodule", 0.9, "left"), Finding("nodule", 0.3, "right"), Finding("pleural_effusion")]
    (case,) = write_phantoms(tmp_path, 1, seed=7, spacing=(8.0, 8.0, 10.0), findings=findings, first=3)
    phantom = make_phantom(7, 3, (8.0, 8.0, 10.0), findings)
    assert case == tmp_path / "phantom_0007_0003"
    names = ["findings/nodule", "findings/nodule_2", "findings/pleural_effusion"]
    files = ["case.json", "ct.nii.gz", *(f"{name}.nii.gz" for name in names), "segmentation.nii.gz"]
    assert sorted(str(path.relative_to(case)) for path in case.rglob("*") if path.is_file()) == sorted(files)
    ct, labels = read_volume(case / "ct.nii.gz"), read_volume(case / "segmentation.nii.gz", kind="labels")
    np.testing.assert_array_equal(ct.voxels, phantom.image.voxels)
    np.testing.assert_array_equal(labels.voxels, phantom.labels.voxels)
    assert ct.grid.same_as(phantom.image.grid)
    np.testing.assert_allclose(ct.spacing, (8.0, 8.0, 10.0))
    for name, mask in phantom.findings.items():
        read = read_volume(case / "findings" / f"{name}.nii.gz", kind="labels")
        np.testing.assert_array_equal(read.voxels, mask.voxels)
        assert read.grid.same_as(ct.grid)
    found = json.loads((case / "case.json").read_text())
    assert found == phantom.description
    assert (found["seed"], found["index"], found["labels"]) == (7, 3, list(THORAX_17))
    assert [one["voxels"] for one in found["findings"]] == [int(m.voxels.sum()) for m in phantom.findings.values()]


def stamps(case):
    return {path.name: path.stat().st_mtime_ns for path in sorted(case.rglob("*.nii.gz"))}


def test_a_stopped_run_goes_on_and_leaves_finished_cases_alone(tmp_path):
    class Stop:
        asked = 0

        def __call__(self):
            self.asked += 1
            return self.asked > 2

    with pytest.raises(Cancelled):
        write_phantoms(tmp_path, 3, spacing=10.0, progress=Progress(cancelled=Stop()))
    done = [folder for folder in sorted(tmp_path.iterdir()) if (folder / "case.json").exists()]
    assert 0 < len(done) < 3
    before = stamps(done[0])
    # As if killed before the last file of the second case.
    cases = write_phantoms(tmp_path, 2, spacing=10.0)
    (cases[1] / "case.json").unlink()
    (cases[1] / "ct.nii.gz").write_bytes(b"half a file")
    write_phantoms(tmp_path, 3, spacing=10.0)
    assert stamps(cases[0]) == before
    np.testing.assert_array_equal(read_volume(cases[1] / "ct.nii.gz").voxels, make_phantom(0, 1, 10.0).image.voxels)
    assert len(list(tmp_path.glob("*/case.json"))) == 3


def test_other_numbers_replace_a_case_with_all_its_findings(tmp_path):
    (case,) = write_phantoms(tmp_path, 1, spacing=10.0, findings=[Finding("nodule", 0.9, "left")])
    before = stamps(case)
    write_phantoms(tmp_path, 1, spacing=10.0, findings=[Finding("nodule", 0.9, "left", "lung_lower_lobe_left")])
    assert stamps(case) != before, "the lobe is one of the numbers"
    write_phantoms(tmp_path, 1, spacing=10.0)
    assert sorted(stamps(case)) == ["ct.nii.gz", "segmentation.nii.gz"]
    assert json.loads((case / "case.json").read_text())["findings"] == []


def test_a_case_interrupted_while_being_replaced_does_not_look_complete(tmp_path, monkeypatch):
    (case,) = write_phantoms(tmp_path, 1, spacing=10.0)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("Agg2ExpLib.volume.write_volume", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path, 1, spacing=9.0)
    assert not (case / "case.json").exists()


def run(*words):
    return main(["phantom", *(str(word) for word in words)])


def test_the_command_writes_the_cases_and_says_where(tmp_path, capsys):
    assert run("--out", tmp_path / "new" / "cases", "--count", 2, "--spacing", "10,9,8", "--seed", 3, "--finding",
               "consolidation:0.7:right:lung_middle_lobe_right", "--progress", "none") == 0  # fmt: skip
    assert "2 cases" in capsys.readouterr().out
    for index in range(2):
        case = tmp_path / "new" / "cases" / f"phantom_0003_{index:04d}"
        phantom = make_phantom(3, index, (10, 9, 8), [Finding("consolidation", 0.7, "right", "lung_middle_lobe_right")])
        np.testing.assert_array_equal(read_volume(case / "ct.nii.gz").voxels, phantom.image.voxels)
        assert (case / "findings" / "consolidation.nii.gz").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", 0], "cannot generate 0 phantoms: ask for at least 1"),
        (["--count", -4], "cannot generate -4 phantoms"),
        (["--first", -1], "index -1"),
        (["--seed", -1], "seed -1"),
        (["--spacing", 0], "phantom spacing 0 mm: use 0.5 to 10 mm"),
        (["--spacing", "-1.5"], "phantom spacing -1.5 mm"),
        (["--spacing", "1,1,400"], "phantom spacing 1,1,400 mm"),
        (["--spacing", "fine"], "--spacing 'fine'"),
        (["--spacing", "1,2"], "--spacing '1,2' has 2 numbers"),
        (["--finding", "nodul"], "unknown finding 'nodul': did you mean nodule?"),
        (["--finding", "plague"], "unknown finding 'plague': known names: pleural_effusion"),
        (["--finding", "nodule:0"], "severity of nodule is 0: it must be above 0 and at most 1"),
        (["--finding", "nodule:1.5"], "severity of nodule is 1.5"),
        (["--finding", "nodule:nan"], "severity of nodule is nan"),
        (["--finding", "nodule:big"], "severity 'big' of finding 'nodule:big' is not a number"),
        (["--finding", "nodule:0.5:up"], "side of nodule is 'up': use left or right"),
        (["--finding", "nodule:0.5:left:lung_middle_lobe_right"], "on the left there are lung_upper_lobe_left"),
        (["--finding", "nodule:0.5:left::"], "has too many parts"),
    ],
)
def test_bad_arguments_are_one_sentence_and_write_nothing(tmp_path, capsys, words, message):
    assert run("--out", tmp_path / "out", *words, "--progress", "none") == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr("Agg2ExpLib.phantom.generator.make_phantom", None)
    assert run("--out", tmp_path / "file" / "cases", "--progress", "none") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert "--out" in error
    assert len(error.strip().splitlines()) == 1


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*phantom_0000_0000.*No space left"):
        write_phantoms(tmp_path, 1, spacing=10.0)
    assert not list(tmp_path.glob("*/case.json"))
