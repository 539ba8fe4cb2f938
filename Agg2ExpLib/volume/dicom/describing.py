"""What DICOM headers tell of a patient and a scanner that a cohort may be grouped by; never a name."""

from __future__ import annotations

import re
from pathlib import Path

from Agg2ExpLib.volume.dicom.headers import is_dicom, quiet_pydicom, text_of

_TOLD = {"sex": ("PatientSex",), "age": ("PatientAge",), "scanner": ("Manufacturer", "ManufacturerModelName")}
_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_LONGEST_TEXT = 80


def describe_series(folder: Path) -> dict[str, str]:
    """Return sex, age in years and scanner as the first readable file of a DICOM folder tells them; nothing else of a patient.

    Parameters
    ----------
    folder : path
        Of one series.

    Returns
    -------
    dict of str to str
        ``sex``, ``age``, ``scanner`` (maker and model); without what the header does not tell.
    """
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper() != "DICOMDIR")
    first = next((path for path in files if is_dicom(path)), None)
    found: dict[str, str] = {}
    if first is None:
        return found
    with quiet_pydicom() as pydicom:
        try:
            header = pydicom.dcmread(first, stop_before_pixels=True, force=True)
            texts = {name: [text_of(header, tag) for tag in tags] for name, tags in _TOLD.items()}
        # The scan itself will be refused with a reason when its turn comes.
        except Exception:
            return {}
    for name, parts in texts.items():
        text = " ".join(" ".join(parts).split())[:_LONGEST_TEXT]
        if name == "age" and (age := _AGE.fullmatch(text)):
            text = f"{round(int(age[1]) / _PER_YEAR[age[2]], 2):g}"
        if text:
            found[name] = text
    return found
