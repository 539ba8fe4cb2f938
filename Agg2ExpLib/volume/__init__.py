"""A scan: voxels and where they lie. This is the room's front door: other rooms import from here only.

``reading`` and ``writing`` go between files and volumes, ``dicom`` puts series together, ``grid`` and ``resampling`` hold
the geometry.
"""

from __future__ import annotations

from Agg2ExpLib.volume.channels import channel_files, on_first_grid
from Agg2ExpLib.volume.dicom import describe_series, is_dicom
from Agg2ExpLib.volume.grid import Grid
from Agg2ExpLib.volume.headers import MIN_AXIS, refuse
from Agg2ExpLib.volume.reading import (
    READABLE,
    check_exists,
    file_sha256,
    on_straight_grid,
    read_image_file,
    read_volume,
    suffix_of,
)
from Agg2ExpLib.volume.resampling import crop, labels_to_input_grid, model_grid, preprocess, reorient, to_grid
from Agg2ExpLib.volume.values import AIR_HU
from Agg2ExpLib.volume.volume import DicomIds, Volume
from Agg2ExpLib.volume.writing import write_volume

__all__ = [
    "AIR_HU",
    "MIN_AXIS",
    "READABLE",
    "DicomIds",
    "Grid",
    "Volume",
    "channel_files",
    "check_exists",
    "crop",
    "describe_series",
    "file_sha256",
    "is_dicom",
    "labels_to_input_grid",
    "model_grid",
    "on_first_grid",
    "on_straight_grid",
    "preprocess",
    "read_image_file",
    "read_volume",
    "refuse",
    "reorient",
    "suffix_of",
    "to_grid",
    "write_volume",
]
