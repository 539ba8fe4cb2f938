"""DICOM: which files of a folder belong together, where their slices lie, and what their pixels mean.

``headers`` reads what a file says, ``series`` chooses, ``stack`` checks and sorts the slices, ``pixels`` decodes them,
``reading`` goes through all of it. Every header is read once and every chosen file is read whole once.
"""

from __future__ import annotations

from Agg2ExpLib.volume.dicom.describing import describe_series
from Agg2ExpLib.volume.dicom.headers import (
    Plane,
    found_in,
    frames_of,
    is_dicom,
    plane_of,
    quiet_pydicom,
    read_header,
    text_of,
)
from Agg2ExpLib.volume.dicom.kinds import LABEL_MAP, SEGMENTATION, STRUCTURE_SET
from Agg2ExpLib.volume.dicom.pixels import stored_pixels
from Agg2ExpLib.volume.dicom.reading import DicomScan, read_series, series_digest, series_files
from Agg2ExpLib.volume.dicom.series import files_of
from Agg2ExpLib.volume.dicom.stack import placed_planes

__all__ = [
    "LABEL_MAP",
    "SEGMENTATION",
    "STRUCTURE_SET",
    "DicomScan",
    "Plane",
    "describe_series",
    "files_of",
    "found_in",
    "frames_of",
    "is_dicom",
    "placed_planes",
    "plane_of",
    "quiet_pydicom",
    "read_header",
    "read_series",
    "series_digest",
    "series_files",
    "stored_pixels",
    "text_of",
]
