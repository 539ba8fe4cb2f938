"""What a DICOM file is, by its SOP class: slices of a scan, or something that lies beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SEGMENTATION, LABEL_MAP = f"{_STORAGE}66.4", f"{_STORAGE}66.7"
STRUCTURE_SET = f"{_STORAGE}481.3"
_SECONDARY = f"{_STORAGE}7"
_MADE = re.compile("SECONDARY|MIP|MINIP|MPR|PROJECTION|REFORMATTED")
# The first that fits: what a file of that class is called, in singular and plural.
_BESIDE = (
    (f"{_STORAGE}88.67", "dose report", "dose reports"),
    (f"{_STORAGE}88.68", "dose report", "dose reports"),
    (f"{_STORAGE}88.59", "list of key images", "lists of key images"),
    (f"{_STORAGE}88", "structured report", "structured reports"),
    (f"{_STORAGE}11", "presentation state", "presentation states"),
    (SEGMENTATION, "segmentation", "segmentations"),
    (LABEL_MAP, "segmentation", "segmentations"),
    (STRUCTURE_SET, "structure set", "structure sets"),
    (f"{_STORAGE}481.2", "dose distribution", "dose distributions"),
    (f"{_STORAGE}481", "treatment plan", "treatment plans"),
    (f"{_STORAGE}104", "document", "documents"),
    (f"{_STORAGE}9", "waveform", "waveforms"),
    (f"{_STORAGE}66", "raw data or registration", "raw data or registrations"),
)


def is_secondary_capture(sop_class: str) -> bool:
    """Tell whether the file is a picture made of a screen or by a program, not by a scanner."""
    return _is(sop_class, _SECONDARY)


def is_derived(sop_class: str, image_type: Sequence[str]) -> bool:
    """Tell whether a picture was computed from slices, such as a projection or a reformatted plane, or captured."""
    words = [word.upper() for word in image_type] or [""]
    made = words[0] == "DERIVED" and any(_MADE.search(word) for word in words[1:])
    return made or is_secondary_capture(sop_class)


def what_it_is(sop_class: str, image_type: Sequence[str], colour: bool, placed: bool) -> tuple[str, str]:
    """Return what a file is when it is no slice of a scan, in singular and plural; empty for a slice.

    Parameters
    ----------
    sop_class : str
        SOPClassUID.
    image_type : sequence of str
        ImageType.
    colour : bool
        Several numbers per pixel, or a palette.
    placed : bool
        The file says where its pixels lie in the patient.
    """
    for prefix, one, many in _BESIDE:
        if _is(sop_class, prefix):
            return one, many
    if any(word.upper() in ("LOCALIZER", "SCOUT") for word in image_type):
        return "scout or localizer", "scouts or localizers"
    if is_secondary_capture(sop_class) and not placed:
        return "secondary capture", "secondary captures"
    if colour:
        return "colour picture", "colour pictures"
    return "", ""


def _is(sop_class: str, prefix: str) -> bool:
    return sop_class == prefix or sop_class.startswith(f"{prefix}.")
