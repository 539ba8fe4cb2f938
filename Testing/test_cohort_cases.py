"""Which cases are found: tables, phantoms, TotalSegmentator subjects, DICOM studies, loose scans - and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from Agg2ExpLib.cohort.run.cases import CohortCase, find_cohort
from Agg2ExpLib.cohort.run.store import file_stem
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.phantom import Finding, write_phantoms


def table(folder, text):
    (folder / "cases.csv").write_text(text)
    return folder / "cases.csv"


def test_a_table_gives_images_truth_regions_and_metadata(tmp_path):
    text = "id,image,truth,roi:pleural_effusion,age\na,a/ct.nii.gz,a/seg.nii.gz,a/e.nii.gz,61\nb,/abs/ct.nii.gz,,,70\n"
    first, second = find_cohort(table(tmp_path, text))
    assert (first.id, first.image, first.truth) == ("a", tmp_path / "a/ct.nii.gz", tmp_path / "a/seg.nii.gz")
    assert first.regions == {"pleural_effusion": tmp_path / "a/e.nii.gz"}
    assert first.metadata == {"age": "61"}
    assert (second.image, second.truth, second.regions) == (Path("/abs/ct.nii.gz"), None, {})


def test_semicolons_and_a_byte_order_mark_are_read_too(tmp_path):
    (tmp_path / "c.csv").write_bytes("id;image\na;x,y.nii.gz\n".encode("utf-8-sig"))
    assert [case.image.name for case in find_cohort(tmp_path / "c.csv")] == ["x,y.nii.gz"]


def test_a_row_that_cannot_be_read_is_a_case_with_a_problem(tmp_path):
    cases = find_cohort(table(tmp_path, "id,image\na,x.nii.gz\nb\n,y.nii.gz\nd,\n"))
    assert [case.problem.partition("cases.csv ")[2] for case in cases] == [
        "",
        "line 3 has 1 fields, the header has 2; mend the row",
        "line 4 has no id; give each case its own",
        "line 5 names no image",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,image\na,x\na,y\n", "gives the case 'a' twice"),
        ("id,image,id\na,x,b\n", "gives the column 'id' twice"),
        ("name,image\na,x\n", "has no column 'id'"),
        ("id,image\n", "has no case"),
        ("", "is empty"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(tmp_path, text, told):
    with pytest.raises(InputError, match=told):
        find_cohort(table(tmp_path, text))


def test_phantoms_bring_truth_findings_sex_and_age(tmp_path):
    write_phantoms(tmp_path, 1, spacing=10.0, findings=[Finding("pleural_effusion", 0.5)])
    (case,) = find_cohort(tmp_path)
    assert case.truth == tmp_path / case.id / "segmentation.nii.gz"
    assert case.regions == {"pleural_effusion": tmp_path / case.id / "findings" / "pleural_effusion.nii.gz"}
    assert {"sex", "age"} < set(case.metadata)
    assert (case.metadata["finding"], case.metadata["severity"]) == ("pleural_effusion", "0.5")


def test_totalsegmentator_subjects_bring_masks_and_the_metadata_of_their_list(tmp_path):
    (tmp_path / "s0011" / "segmentations").mkdir(parents=True)
    (tmp_path / "s0011" / "ct.nii.gz").touch()
    (tmp_path / "s0012").mkdir()
    (tmp_path / "s0012" / "ct.nii.gz").touch()
    (tmp_path / "meta.csv").write_text("image_id;age;gender\ns0011;64;m\n")
    first, second = find_cohort(tmp_path)
    assert (first.truth, first.metadata) == (tmp_path / "s0011" / "segmentations", {"age": "64", "gender": "m"})
    assert second.truth is None


def test_dicom_studies_are_cases_and_the_largest_series_is_taken(tmp_path):
    for series, count in (("scout", 1), ("chest", 3)):
        folder = tmp_path / "study1" / series
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "notes").mkdir()
    chest = tmp_path / "study1" / "chest"
    assert find_cohort(tmp_path) == [CohortCase("study1", chest)]
    assert find_cohort(chest) == [CohortCase("chest", chest)], "one series alone is a cohort of one"
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert find_cohort(tmp_path) == [CohortCase("study1", chest)], "as a disc is exported"


def test_dicom_headers_tell_sex_age_and_scanner(tmp_path):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.zeros((1, 4, 4), dtype=np.int16))
    told = {"0010|0040": "F", "0010|1010": "006M", "0008|0070": "Maker", "0008|1090": "Model 1", "0010|0010": "Name^A",
            "0008|0060": "CT"}  # fmt: skip
    for tag, text in told.items():
        image.SetMetaData(tag, text)
    (tmp_path / "study1").mkdir()
    SimpleITK.WriteImage(image, str(tmp_path / "study1" / "1.dcm"))
    (case,) = find_cohort(tmp_path)
    assert case.metadata == {"sex": "F", "age": "0.5", "scanner": "Maker Model 1"}, "and not the patient's name"


def test_loose_scans_are_cases(tmp_path):
    for name in ("b.nii.gz", "a.mha", "readme.txt"):
        (tmp_path / name).touch()
    assert [case.id for case in find_cohort(tmp_path)] == ["a", "b"]


def test_nothing_to_explain_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no case"):
        find_cohort(tmp_path)
    with pytest.raises(InputError, match="neither a folder nor"):
        find_cohort(tmp_path / "x.txt")


def test_ids_that_differ_have_files_that_differ():
    names = ["a b", "a_b", "A_b", "a/b", "../x", "x", "", "a" * 300, "a" * 301]
    stems = [file_stem(name) for name in names]
    assert len({stem.lower() for stem in stems}) == len(names)
    assert all("/" not in stem and not stem.startswith(".") and len(stem) < 120 for stem in stems)


def test_a_case_comes_back_from_plain_values():
    case = CohortCase("a", Path("/x"), Path("/t"), {"r": Path("/r")}, {"age": "6"}, "why")
    assert CohortCase.from_dict(case.to_dict()) == case


def test_paths_of_cases_do_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "table.csv").write_text("id,image,truth,roi:spot\na,ct.mha,seg.mha,spot.mha\n")
    monkeypatch.chdir(tmp_path)
    (case,) = find_cohort("c/table.csv")
    here = tmp_path / "c"
    assert (case.image, case.truth, case.regions) == (here / "ct.mha", here / "seg.mha", {"spot": here / "spot.mha"})
