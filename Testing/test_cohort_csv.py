"""Tables as spreadsheets write them: missing values in any spelling, sep= lines, empty columns, decimal commas."""

import numpy as np
import pytest
from cohort_samples import table_of, write_cohort

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge.groups import Grouping
from Agg2ExpLib.cohort.run.cases import find_cohort
from Agg2ExpLib.cohort.run.csv_tables import read_rows
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError

SPELLINGS = ("", "NA", "n/a", "nan", "None", "NULL", "-", "N.A.", ".", "#N/A", "<NA>")


def rows_of(tmp_path, text, encoding="utf-8"):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    return read_rows(tmp_path / "t.csv")


@pytest.mark.parametrize("missing", SPELLINGS)
def test_a_missing_value_is_missing_in_a_case_table(tmp_path, missing):
    text = (
        f"id,image,truth,roi:effusion,age,sex\na,a.nii.gz,{missing},{missing},{missing},F\nb,b.nii.gz,,,61,{missing}\n"
    )
    (tmp_path / "cases.csv").write_text(text)
    first, second = find_cohort(tmp_path / "cases.csv")
    assert (first.truth, first.regions, first.metadata["age"]) == (None, {}, "")
    assert second.metadata["sex"] == ""


@pytest.mark.parametrize("missing", SPELLINGS)
def test_a_missing_value_is_in_no_group_and_no_number(tmp_path, missing):
    metadata = {
        f"p{n}": {"sex": missing if n == 2 else "FM"[n % 2], "age": missing if n == 3 else f"{50 + n}"}
        for n in range(8)
    }
    table = CohortTable.read(write_cohort(tmp_path / "c", {name: table_of(name) for name in metadata}, metadata))
    sex = Grouping("sex")
    assert {name: len(index) for name, index in sex.split(table).items()} == {"F": 3, "M": 4}
    assert sex.missing(table) == 1
    assert np.flatnonzero(np.isnan(table.numbers("age"))).tolist() == [3]


def test_excels_separator_line_decimal_commas_and_empty_columns_are_understood(tmp_path):
    text = "sep=;\r\nid;image;age;;\r\na;a.nii.gz;61,5;;\r\n\r\nb;b.nii.gz;-0,25;;\r\n"
    header, first, second = rows_of(tmp_path, text, "utf-8-sig")
    assert (header, first, second) == (["id", "image", "age"], ["a", "a.nii.gz", "61.5"], ["b", "b.nii.gz", "-0.25"])
    assert [first.line, second.line] == [3, 5]


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["61,5", "70", ""], ["61.5", "70", ""]),
        (["-0,125", "0,5"], ["-0.125", "0.5"]),
        (["1,2", "1,2,3"], None),
        (["1,2", "left"], None),
        (["61,5", "61.5"], None),
        (["1,234", "20,500"], None),
    ],
)
def test_a_quoted_comma_is_the_decimal_sign_where_the_whole_column_can_be_read_so(tmp_path, cells, read):
    text = "id,age\n" + "".join(f'{n},"{cell}"\n' for n, cell in enumerate(cells))
    assert [row[1] for row in rows_of(tmp_path, text)[1:]] == (read or cells)


@pytest.mark.parametrize(
    "text", ["id;image;roi:a;age\n1,5;2,5;3,5;4,5\n", 'id,image,roi:a,age\n"1,5","2,5","3,5","4,5"\n']
)
def test_an_id_or_a_file_name_keeps_its_comma(tmp_path, text):
    assert rows_of(tmp_path, text)[1] == ["1,5", "2,5", "3,5", "4.5"]
    (case,) = find_cohort(tmp_path / "t.csv")
    assert (case.id, case.image.name, case.regions["a"].name) == ("1,5", "2,5", "3,5")


def test_the_row_numbers_of_a_data_frame_are_left_out_and_other_nameless_values_refused(tmp_path):
    assert rows_of(tmp_path, ",id\n0,a\n1,b\n") == [["id"], ["a"], ["b"]]
    with pytest.raises(InputError, match="values in column 1, which has no name"):
        rows_of(tmp_path, ",id\nx,a\ny,b\n")


def test_a_cohort_without_one_explained_case_ends_with_2_and_says_so(tmp_path, capsys):
    pytest.importorskip("torch")
    (tmp_path / "cases.csv").write_text("id,image\na,there-is-none.nii.gz\nb,nor-here.nii.gz\n")
    words = [
        "cohort",
        str(tmp_path / "cases.csv"),
        "--model",
        "thorax-phantom",
        "--method",
        "gradient",
        "--workers",
        "1",
    ]
    assert main([*words, "--out", str(tmp_path / "out"), "--progress", "none"]) == 2
    told = capsys.readouterr().err
    assert "none of 2 cases could be explained" in told
    assert "there-is-none" in told
