"""Coded names: SNOMED CT where DICOM's own dictionary has the code, else a code of our own scheme with the name as its meaning."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from Agg2ExpLib.anatomy import LATERALITY_SNOMED, structure

#: Our own coding scheme, as DICOM names private ones.
SCHEME = "99AGG2EXP"
# DICOM's longest text (LO) and code value (SH).
_LONGEST_TEXT, _DIGITS = 64, 14


def text(words: str, longest: int = _LONGEST_TEXT) -> str:
    r"""Return words as a DICOM text value holds them: no backslash (it parts values), no control characters, cut to its length.

    Examples
    --------
    >>> text("left\\right\n lung")
    'left/right lung'
    """
    plain = "".join(" " if one.isspace() or not one.isprintable() else one for one in words.replace("\\", "/"))
    return " ".join(plain.split())[:longest].strip() or "unnamed"


def own_code(value: str, meaning: str) -> Any:
    """Return a code of our own scheme."""
    from pydicom.sr.coding import Code

    return Code(value, SCHEME, text(meaning))


def concept_of(name: str) -> Any:
    """Return the code of a structure or region: SNOMED CT's when pydicom's dictionary of DICOM's codes has it, else our own."""
    from pydicom.sr.coding import Code

    found = structure(name)
    meaning = _snomed().get(found.snomed)
    if meaning is None:
        return own_code(f"R-{hashlib.sha256(name.encode()).hexdigest()[: _DIGITS - 2]}", found.name)
    return Code(found.snomed, "SCT", meaning)


def side_of(name: str) -> Any:
    """Return the code of a structure's side, None when it has none; one without a SNOMED code has its side in its name."""
    from pydicom.sr.coding import Code

    found = structure(name)
    if not found.laterality or found.snomed not in _snomed():
        return None
    value = LATERALITY_SNOMED[found.laterality]
    return Code(value, "SCT", _snomed()[value])


def category_of(name: str, anatomical: bool) -> Any:
    """Return what kind of thing it is; a region of the user's own is a place, as long as its name tells no more."""
    from pydicom.sr.codedict import codes

    found = structure(name)
    if found.system == "finding":
        return codes.SCT.MorphologicallyAbnormalStructure
    known = anatomical or found.snomed in _snomed()
    return codes.SCT.AnatomicalStructure if known else codes.SCT.SpatialAndRelationalConcept


@functools.lru_cache(maxsize=1)
def _snomed() -> dict[str, str]:
    """SNOMED CT code -> meaning, of the codes that DICOM uses; of two names the short one: Liver, not Liver structure."""
    from pydicom.sr.codedict import codes

    known = sorted(codes.SCT.concepts.values(), key=lambda code: -len(code.meaning))
    return {code.value: code.meaning for code in known}
