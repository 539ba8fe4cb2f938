"""Where regions come from: masks, label maps, Slicer's segmentations, folders of masks, DICOM segmentations and contours.

Every region is placed by its own file's geometry; nothing is merged, renamed or left out without a note.
"""

from __future__ import annotations

from Agg2ExpLib.regions.placing import PlacedRegions, as_regions, check_names, regions_on_grid
from Agg2ExpLib.regions.reading import named_region, named_regions, present_regions, read_regions
from Agg2ExpLib.regions.region import Region

__all__ = [
    "PlacedRegions",
    "Region",
    "as_regions",
    "check_names",
    "named_region",
    "named_regions",
    "present_regions",
    "read_regions",
    "regions_on_grid",
]
