"""File names that every system takes, made from names in any script."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

# Windows has no file of these names, whatever the ending and the case.
_RESERVED = {"con", "prn", "aux", "nul", *(port + number for port in ("com", "lpt") for number in "0123456789¹²³")}
# Bytes, for file systems count those: with endings and temporary names they stay below the 255 that a name may have.
_LONGEST = 140
_LONGEST_DISTINCT = 80


def safe_file_name(name: str, *, distinct: bool = False) -> str:
    """Return a name that is safe as a file name on every system.

    Letters and digits of every script stay; what else there is becomes ``_``. Names that Windows keeps for itself get a ``_``,
    long ones are cut and end in a hash.

    Parameters
    ----------
    name : str
        Any text.
    distinct : bool
        Add a hash to every name that is changed or has capitals, so that no two names, on no file system, share a file.
        Without it, names that differ in punctuation or capitals alone share one: see :func:`file_key`.

    Returns
    -------
    str
        Letters, digits, ``_``, ``-`` and ``.``; at most 140 bytes in UTF-8, 91 when distinct.

    Examples
    --------
    >>> safe_file_name("my finding / 1"), safe_file_name("aux"), safe_file_name("心脏")
    ('my_finding_1', 'aux_', '心脏')
    >>> safe_file_name("s0011", distinct=True), safe_file_name("a b", distinct=True)
    ('s0011', 'a_b-c8687a08aa')
    """
    composed = unicodedata.normalize("NFC", name)
    letters = "".join(one if _stays(one) else "\0" for one in composed)
    safe = re.sub("\0+", "_", letters).strip("._")
    stem, dot, ending = safe.partition(".")
    if stem.casefold() in _RESERVED:
        safe = f"{stem}_{dot}{ending}"
    # A symbol such as an arrow is all that may tell two names apart.
    lost = any(not one.isascii() and not _stays(one) for one in composed)
    longest = _LONGEST_DISTINCT if distinct else _LONGEST
    short = _cut(safe or "region", longest)
    changed = short != name or short != short.lower()
    if lost or (safe and short != safe) or (distinct and changed):
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
        return f"{_cut(short, min(longest, _LONGEST - 11))}-{digest}"
    return short


def file_key(name: str) -> str:
    """Return what two names have in common when their files are one on some file system: those that ignore case.

    Examples
    --------
    >>> file_key("Heart") == file_key("heart"), file_key("Сердце") == file_key("Лёгкое")
    (True, False)
    """
    return safe_file_name(name).casefold()


def path_within(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder, also where the system's own encoding lacks letters of its name (``LC_ALL=C``)."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        name = os.fsdecode(name.encode("utf-8", "surrogatepass"))
    return folder / name


def region_names(wanted: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return a name for each extra region that no structure of the model and no other region has.

    A region that is named like a structure, or like one before it, gets a number. Names with the same :func:`file_key` count as
    one: each region has a file of its own on every system.

    Parameters
    ----------
    wanted : sequence of str
        What the user calls the regions.
    labels : sequence of str
        The model's structures.

    Examples
    --------
    >>> region_names(["nodule", "Heart", "nodule", ""], ["background", "heart"])
    ['nodule', 'Heart (2)', 'nodule (2)', 'region']
    """
    taken = {file_key(label) for label in labels}
    names = []
    for name in wanted:
        plain = name.strip() or "region"
        tries = [plain, *(f"{plain} ({number})" for number in range(2, 3 + len(wanted) + len(labels)))]
        names.append(next(one for one in tries if file_key(one) not in taken))
        taken.add(file_key(names[-1]))
    return names


def _stays(one: str) -> bool:
    # Marks too: without them the vowels of many scripts are lost.
    return one in ".-" or unicodedata.category(one)[0] in "LMN"


def _cut(text: str, longest: int) -> str:
    return text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")
