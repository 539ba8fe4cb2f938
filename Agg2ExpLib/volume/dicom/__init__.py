"""DICOM: which files of a folder belong together, where their slices lie, and what their pixels mean.

``headers`` reads what a file says, ``series`` chooses, ``stack`` checks and sorts the slices, ``pixels`` decodes them,
``reading`` goes through all of it. Every header is read once and every chosen file is read whole once.
"""

from __future__ import annotations

from Agg2ExpLib.volume.dicom.describing import describe_series
from Agg2ExpLib.volume.dicom.headers import is_dicom
from Agg2ExpLib.volume.dicom.reading import DicomScan, read_series, series_digest

__all__ = ["DicomScan", "describe_series", "is_dicom", "read_series", "series_digest"]
