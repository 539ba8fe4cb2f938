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

    Missing values (:data:`MISSING`) become empty cells. Where the comma does not part cells it may be the decimal sign:
    such numbers get a point. Empty rows are left out, and so are columns without a name that hold nothing or count the rows.

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
    header, body = rows[0], [_plain(row, delimiter) for row in rows[1:]]
    return _without_nameless(path, header, [row for row in body if any(row)])


def _plain(row: Row, delimiter: str) -> Row:
    cells = ["" if is_missing(text) else text for text in row]
    if delimiter != ",":
        cells = [text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text for text in cells]
    return Row(cells, row.line)


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
