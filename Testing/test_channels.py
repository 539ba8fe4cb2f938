"""Several volumes of one patient: files in nnU-Net's naming, series of one study, and what is said of another modality."""

import numpy as np
import pytest
import torch

from Agg2ExpLib.case import Case
from Agg2ExpLib.cli import main
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.models import load_model
from Agg2ExpLib.repeating import read_repeat
from Agg2ExpLib.volume import Volume, channel_files, read_volume, write_volume
from Testing.dicom_writing import write_series
from Testing.small_nnunet import plans, scan, write_folder

torch.set_num_threads(1)
SHAPE = (14, 13, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a network of two MR channels."""
    plan = plans({"normalization_schemes": ["ZScoreNormalization"] * 2}, channels=2)
    return write_folder(tmp_path_factory.mktemp("channels") / "Dataset003_MR", plan, channels=("T1", "FLAIR"))


def mr(seed=0, offset=500.0):
    volume = scan(SHAPE, (2.0, 2.0, 2.0), seed=seed)
    return Volume(np.abs(volume.voxels) + np.float32(offset), volume.grid)


@pytest.fixture
def case(tmp_path):
    (tmp_path / "cases").mkdir()
    for number in range(2):
        write_volume(mr(number), tmp_path / "cases" / f"A_{number:04}.nii.gz")
    return tmp_path / "cases"


def words_of(folder):
    return [
        *["--mirroring", "off", "--method", "gradient", "--device", "cpu", "--progress", "none", "--model"],
        str(folder),
    ]


def test_a_case_is_named_by_its_folder_or_its_prefix_and_explained_per_channel(folder, case, tmp_path):
    assert [path.name for path in channel_files(case)] == ["A_0000.nii.gz", "A_0001.nii.gz"]
    assert main(["explain", str(case / "A"), "--out", str(tmp_path / "out"), *words_of(folder)]) == 0
    found = Explanation.load(tmp_path / "out")
    assert [found.document["image"]["name"], found.document["other_channels"][0]["name"]] == [
        "A_0000.nii.gz",
        "A_0001.nii.gz",
    ]
    for entry in found.document["classes"]:
        if entry["status"] == "explained":
            assert set(entry["channels"]) == {"T1", "FLAIR"}
            assert sum(entry["channels"].values()) == pytest.approx(1.0)
    rows = (tmp_path / "out" / "importance_channels.csv").read_text().splitlines()
    explained = [entry for entry in found.document["classes"] if entry["status"] == "explained"]
    assert len(rows) == 1 + len(explained) * 2 * len(found.importance.rois)
    for entry in explained:
        own = list(entry["channel_mass"].values())
        share = np.array([entry["channels"][name] for name in ("T1", "FLAIR")])
        assert np.allclose(np.sum(own, axis=1), 1)
        assert share.sum() == pytest.approx(1)
    assert not any("Hounsfield" in line for line in found.document["messages"])
    again = read_repeat(tmp_path / "out").run(tmp_path / "again")
    for measure, values in found.importance.values.items():
        assert np.array_equal(again.importance.values[measure], values, equal_nan=True)


def test_a_missing_channel_and_several_cases_are_named(folder, case):
    with pytest.raises(InputError, match=r"2 channels \(T1, FLAIR\), but 1 volume was given"):
        Case.open(case / "A_0000.nii.gz", load_model(folder))
    write_volume(mr(3), case / "B_0001.nii.gz")
    with pytest.raises(InputError, match="channel 0000 is missing"):
        channel_files(case / "B")
    with pytest.raises(InputError, match="holds 2 cases"):
        channel_files(case)


def test_series_of_one_frame_of_reference_are_brought_together(folder, tmp_path):
    rng = np.random.default_rng(0)
    place = tmp_path / "study"
    values = rng.integers(0, 900, (12, 14, 13)).astype(np.int16)
    write_series(place, values, SeriesInstanceUID="1.2.3.1", SeriesNumber="3", Modality="MR")
    others = rng.integers(0, 900, (24, 7, 7)).astype(np.int16)
    write_series(
        place, others, (4.0, 4.0, 1.5), SeriesInstanceUID="1.2.3.2", SeriesNumber="5", Modality="MR", name="b{}.dcm"
    )
    assert main(["explain", str(place), "--series", "3,5", "--out", str(tmp_path / "out"), *words_of(folder)]) == 0
    found = Explanation.load(tmp_path / "out")
    assert any("same frame of reference" in line for line in found.document["messages"])
    assert not any("not CT" in line for line in found.document["messages"])
    assert len(read_repeat(tmp_path / "out").images) == 2
    assert read_repeat(tmp_path / "out").changes == ()


def test_another_modality_than_the_model_takes_is_said(folder, tmp_path):
    ct = Volume(np.full(SHAPE, -1000.0, np.float32), mr().grid)
    ct.voxels[3:9, 3:9, 3:9] = 40
    write_volume(ct, tmp_path / "ct.nii.gz")
    write_volume(mr(), tmp_path / "mr.nii.gz")
    holes = mr().voxels.copy()
    holes[0, 0, 0] = np.nan
    write_volume(Volume(holes, mr().grid), tmp_path / "holes.nii.gz")
    case = Case.open([tmp_path / "ct.nii.gz", tmp_path / "holes.nii.gz"], load_model(folder))
    assert any("as in CT, and the model does not take CT" in note for note in case.images[0].notes)
    assert case.images[1].voxels[0, 0, 0] == 0
    assert any("set to 0." in note for note in case.images[1].notes)
    on_ct = write_folder(tmp_path / "Dataset004_CT", plans())
    case = Case.open(tmp_path / "mr.nii.gz", load_model(on_ct))
    assert any("check that they are Hounsfield units" in note for note in case.images[0].notes)
    assert read_volume(tmp_path / "mr.nii.gz", kind="scan").notes == ()
