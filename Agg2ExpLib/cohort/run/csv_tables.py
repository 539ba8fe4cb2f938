"""Tables that people bring: CSV as spreadsheets write it, and what counts as a missing value."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

from Agg2ExpLib.errors import InputError

#: Words that stand for a missing value, whatever their capitals; an empty cell is one too.
MISSING = frozenset({"", "na", "n/a", "n.a.", "nan", "none", "null", "-", ".", "#n/a", "<na>"})
_MOST_ROWS = 1_000_001
_DELIMITERS = ",;\t"
# Columns that name cases and files: whatever stands there is no number.
_NAMES = re.compile(r"id|image|image_id|case|patient|subject|truth|segmentation|ground_truth|roi:.*", re.IGNORECASE)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")
# The first line by which a spreadsheet is told the delimiter.
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)


class Row(list[str]):
    """The cells of one row, and the line of the file where it stands."""

    def __init__(self, cells: Sequence[str], line: int) -> None:
        super().__init__(cells)
        self.line = line


def is_missing(text: str) -> bool:
    """Tell whether a cell says that nothing is known.

    Examples
    --------
    >>> [is_missing(text) for text in ("", " N/A ", "NaN", "-", "0", "no")]
    [True, True, True, True, False, False]
    """
    return text.strip().lower() in MISSING


def number_in(text: str) -> float:
    """Return the number in a cell; NaN for a missing one.

    Raises
    ------
    ValueError
        It is a word.

    Examples
    --------
    >>> number_in("61.5"), number_in("NA")
    (61.5, nan)
    """
    return math.nan if is_missing(text) else float(text)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV table, the header first; comma, semicolon or tab, as the header or ``sep=`` shows.

    Missing values (:data:`MISSING`) become empty cells. Where the comma does not part cells it may be the decimal sign, and in
    quoted cells where all of a column are such numbers: they get a point, except in columns of ids and files. Empty rows are
    left out, and so are columns without a name that hold nothing or count the rows.

    Raises
    ------
    InputError
        Missing, empty, not text, or a column with values and no name.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            told = _SEPARATOR_LINE.fullmatch(first.rstrip("\r\n"))
            if not told:
                stream.seek(0)
            offset = 1 if told else 0
            delimiter = told[1] if told else max(_DELIMITERS, key=first.count)
            reader = csv.reader(stream, delimiter=delimiter)
            rows = [
                Row(row, offset + reader.line_num)
                for row, _ in zip(reader, range(_MOST_ROWS), strict=False)
                if any(map(str.strip, row))
            ]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table ({error}); save it as CSV in UTF-8") from error
    if not rows:
        raise InputError(f"{path} is empty; it needs a header and one row per case")
    header, body = rows[0], [Row(["" if is_missing(text) else text for text in row], row.line) for row in rows[1:]]
    _give_points(header, body, delimiter)
    return _without_nameless(path, header, [row for row in body if any(row)])


def _give_points(header: Row, body: Sequence[Row], delimiter: str) -> None:
    """Turn decimal commas into points, in place."""
    for index, name in enumerate(header):
        here = [row for row in body if index < len(row)]
        if _NAMES.fullmatch(name.strip()) or (delimiter == "," and not _is_decimal([row[index] for row in here])):
            continue
        for row in here:
            if _DECIMAL_COMMA.fullmatch(row[index]):
                row[index] = row[index].replace(",", ".")


def _is_decimal(cells: Sequence[str]) -> bool:
    """Tell whether all cells of a column are numbers and a comma among them can only be the decimal sign."""
    commas = [text for text in cells if _DECIMAL_COMMA.fullmatch(text)]
    rest = [text for text in cells if text and not _DECIMAL_COMMA.fullmatch(text)]
    # "1,234" alone may be one thousand and more.
    return all(map(_WHOLE.fullmatch, rest)) and not all(map(_THOUSANDS.fullmatch, commas))


def _without_nameless(path: Path, header: Row, body: Sequence[Row]) -> list[Row]:
    """Leave columns without a name out: empty ones, and the row numbers that data frames are written with."""
    width = len(header)
    for row in body:
        # A spreadsheet ends rows with the empty cells of columns that were once there.
        while len(row) > width and not row[-1]:
            row.pop()
    nameless = [index for index, name in enumerate(header) if not name.strip()]
    for index in nameless:
        cells = [row[index].strip() for row in body if index < len(row)]
        if any(cells) and not _counts_rows(cells):
            raise InputError(f"{path} has values in column {index + 1}, which has no name; name it in the header")
    kept = [index for index in range(width) if index not in nameless]
    if len(kept) == width:
        return [header, *body]
    return [
        Row([header[index] for index in kept], header.line),
        *(Row([row[i] for i in range(len(row)) if i >= width or i in set(kept)], row.line) for row in body),
    ]


def _counts_rows(cells: Sequence[str]) -> bool:
    return cells in ([str(n) for n in range(len(cells))], [str(n) for n in range(1, len(cells) + 1)])
