"""An explanation as DICOM: attributions as parametric maps, structures and regions as segmentations, the table as a report.

Everything joins the scan's study and frame of reference, in series of its own. Identifiers depend on the content alone: the same
explanation exported twice gives the same objects, so that an archive keeps one of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from Agg2ExpLib import __version__
from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.export.codes import SCHEME, category_of, concept_of, own_code, side_of, text
from Agg2ExpLib.export.source import SourceSeries, source_series
from Agg2ExpLib.progress import Progress
from Agg2ExpLib.storage import safe_file_name, write_folder
from Agg2ExpLib.volume import Grid, Volume, reorient

_NAMESPACE = uuid.UUID("6d1f6a52-9d50-4c1e-8a9c-2f0f0b7a4e11")
# Above the numbers that scanners give, so that results come last in a list of series.
_SERIES = {"attributions": 9001, "segmentation": 9002, "regions": 9003, "report": 9004}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_dicom(
    explanation: Explanation,
    out: str | Path,
    *,
    source: str | Path | None = None,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write an explanation as DICOM objects of the scan's study.

    ``attributions/<class>.dcm`` are parametric maps on the model's grid, float32, equal to the last bit to the NIfTI files;
    ``segmentation.dcm`` holds the predicted structures on the scan's own slices, ``regions.dcm`` the extra regions on the model's
    grid (they may overlap), ``report.dcm`` (TID 1500) share and enrichment of every region for every explained structure.
    What has no voxel is in no segmentation.

    Parameters
    ----------
    explanation : Explanation
        Of a scan that was read from DICOM.
    out : path
        Folder to make; it must not exist.
    source : path, optional
        Folder of the scan's series: where it was moved to, or what a NIfTI scan was made from.
    classes : sequence of str, optional
        Explained classes that get a map and rows in the report; all by default.
    progress : Progress, optional
        Counts the objects.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        highdicom is not installed, a class was not explained, or the series is missing or another one.
    OutputError
        The folder exists or cannot be written.
    """
    if find_spec("highdicom") is None:
        raise InputError("DICOM objects need highdicom, which is not installed: pip install 'agg2exp[dicom]'")
    progress = progress or Progress()
    chosen = explanation.explained if classes is None else tuple(classes)
    explanation.check_explained(chosen)
    if not chosen:
        raise InputError(f"{explanation.folder} explains no structure, so there is nothing to export; explain it again")
    series = source_series(explanation.document["image"], None if source is None else Path(source))
    written: list[Path] = []
    with write_folder(Path(out), option="--dicom") as folder, _quiet():
        progress.stage("DICOM", len(chosen) + 3)
        made = Objects(explanation, series)

        def save(data: Any, name: str) -> Any:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            data.save_as(path, enforce_file_format=True)
            written.append(Path(out) / name)
            progress.advance(detail=name)
            return data

        segmentation = made.segmentation()
        if segmentation is not None:
            save(segmentation, "segmentation.dcm")
        regions = made.regions()
        if regions is not None:
            save(regions, "regions.dcm")
        maps = {}
        for number, name in enumerate(chosen, start=1):
            data = save(made.attribution(name, number), f"attributions/{safe_file_name(name)}.dcm")
            maps[name] = _without_pixels(data)
        from Agg2ExpLib.export.dicom_report import report_of

        save(report_of(made, chosen, segmentation, regions, maps), "report.dcm")
    return written


def _without_pixels(data: Any) -> Any:
    """A hundred maps do not fit into memory; the report needs their identifiers alone."""
    del data.FloatPixelData
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Names in any script, and the ages of anonymised patients, make pydicom warn; nothing is changed by that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")
        yield


@dataclass
class Objects:
    """Makes the objects of one explanation.

    Attributes
    ----------
    explanation : Explanation
        What is told.
    source : SourceSeries
        Whose study it joins.
    numbers : dict of str to (str, int)
        Structure or region -> the segmentation that has it (``segmentation`` or ``regions``) and its segment's number.
    """

    explanation: Explanation
    source: SourceSeries
    numbers: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(__version__.encode())
        for name in sorted({"explanation.json", *self.explanation.document["files"]}):
            digest.update(name.encode())
            digest.update(hashlib.sha256((self.explanation.folder / name).read_bytes()).digest())
        digest.update(str(self.source.headers[0].SeriesInstanceUID).encode())
        self._content = digest.hexdigest()

    def uid(self, *role: str) -> str:
        """Return the identifier of a part of this explanation: a UUID of its content as DICOM writes them (2.25)."""
        return f"2.25.{uuid.uuid5(_NAMESPACE, ' '.join((self._content, *role))).int}"

    def identity(self, kind: str, name: str, number: int) -> dict[str, Any]:
        """Return what every object says of itself."""
        return {
            "series_instance_uid": self.uid(kind),
            "series_number": _SERIES[kind],
            "sop_instance_uid": self.uid(kind, name),
            "instance_number": number,
            "manufacturer": "Agg2Exp",
            "manufacturer_model_name": "Agg2Exp",
            "software_versions": __version__,
            "device_serial_number": self._content[:16],
            "specific_character_set": "ISO_IR 192",
        }

    def settled(self, data: Any, description: str) -> Any:
        """Give an object its description, and times and identifiers that depend on its content alone."""
        from pydicom import Dataset

        data.SeriesDescription = text(description)
        scheme = Dataset()
        scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, "Agg2Exp"
        data.CodingSchemeIdentificationSequence = [scheme]
        with contextlib.suppress(KeyError, ValueError):
            made = datetime.fromisoformat(str(self.explanation.document["created"]))
            for part in ("InstanceCreation", "Content", "Series"):
                if part != "Series" or f"{part}Date" in data:
                    setattr(data, f"{part}Date", made.strftime("%Y%m%d"))
                    setattr(data, f"{part}Time", made.strftime("%H%M%S"))
            for equipment in data.get("ContributingEquipmentSequence", ()):
                equipment.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")
        for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in data.get(name, ()):
                item.DimensionOrganizationUID = self.uid(str(data.SOPInstanceUID), "dimensions")
        return data

    def attribution(self, name: str, number: int) -> Any:
        """Return the parametric map of a class."""
        from highdicom import VOILUTTransformation
        from highdicom.pm import ParametricMap, RealWorldValueMapping
        from pydicom.sr.codedict import codes

        volume = self.explanation.attribution(name)
        low, high = float(volume.voxels.min()), float(volume.voxels.max())
        if not np.isfinite([low, high]).all():
            raise InputError(
                f"the attribution of {name} has values that are not finite; repeat the explanation in float32"
            )
        method = self.explanation.document["settings"]["method"]
        mapping = RealWorldValueMapping(
            "attribution", text(f"Attribution of {structure(name).name} ({method}): above 0 for, below 0 against"),
            codes.UCUM.NoUnits, (low, high), slope=1.0, intercept=0.0,
            quantity_definition=own_code("attribution", "Attribution of a segmentation network's objective"),
        )  # fmt: skip
        width = 2 * max(abs(low), abs(high)) or 1.0
        data = ParametricMap(
            self.source.headers, self._frames(reorient(volume, "LPS")),
            **self.identity("attributions", name, number),
            contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation(window_center=0.0, window_width=width)],
            content_label="ATTRIBUTION", content_description=text(f"Attribution of {structure(name).name} ({method})"),
        )  # fmt: skip
        # The standard asks for it, empty where it is not known, of this kind of object alone.
        data.setdefault("Laterality", None)
        return self.settled(data, "Agg2Exp attributions")

    def segmentation(self) -> Any:
        """Return the predicted structures on the scan's slices; None when there is none."""
        found = reorient(self.explanation.prediction(), self.source.grid.axcodes)
        labels = self.explanation.labels
        there = [value for value in np.unique(found.voxels).tolist() if value > 0 and labels[value] != "background"]
        if not there:
            return None
        lookup = np.zeros(int(found.voxels.max()) + 1, dtype=np.uint16)
        lookup[there] = np.arange(1, len(there) + 1)
        volume = Volume(lookup[found.voxels], found.grid)
        return self._segmented("segmentation", volume, [labels[value] for value in there], "AUTOMATIC")

    def regions(self) -> Any:
        """Return the extra regions, which may overlap; None when there is none with a voxel."""
        masks = {name: reorient(self.explanation.region(name), "LPS") for name in self.explanation.regions}
        masks = {name: mask for name, mask in masks.items() if mask.voxels.any()}
        if not masks:
            return None
        grid = next(iter(masks.values())).grid
        inside = np.stack([mask.voxels > 0 for mask in masks.values()], axis=-1)
        # Whoever drew them is not told; a network or a person.
        return self._segmented("regions", (inside, grid), list(masks), "SEMIAUTOMATIC")

    def _segmented(self, kind: str, volume: Volume | tuple[np.ndarray, Grid], names: list[str], by: str) -> Any:
        from highdicom.seg import Segmentation

        readable = [text(structure(name).name) for name in names]
        labels = readable if len(set(readable)) == len(names) else [text(name) for name in names]
        if len(set(labels)) < len(names):
            raise InputError(
                f"two {kind} have the same name in their first 64 letters, the longest that DICOM has; rename one"
            )
        described = []
        for number, (name, label) in enumerate(zip(names, labels, strict=True), start=1):
            self.numbers[name] = (kind, number)
            described.append(self._description(number, name, label, by))
        data = Segmentation(
            self.source.headers, self._frames(volume), "BINARY", described,
            **self.identity(kind, kind, 1), content_label=kind.upper(),
            content_description="Predicted structures" if kind == "segmentation" else "Extra regions of interest",
        )  # fmt: skip
        return self.settled(data, f"Agg2Exp {kind}")

    def _description(self, number: int, name: str, label: str, by: str) -> Any:
        from highdicom import AlgorithmIdentificationSequence
        from highdicom.color import CIELabColor
        from highdicom.seg import SegmentDescription
        from highdicom.sr import CodedConcept
        from pydicom.sr.codedict import codes

        model = self.explanation.document["model"]
        colour = self._colours().get(name) or structure(name).colour
        algorithm = AlgorithmIdentificationSequence(
            text(str(model["name"])) if by == "AUTOMATIC" else "not known",
            codes.DCM.ArtificialIntelligence if by == "AUTOMATIC" else codes.DCM.ManualProcessing,
            text(str(model["sha256"])[:16] or "not known") if by == "AUTOMATIC" else "not known",
        )
        one = SegmentDescription(
            number, label, category_of(name, by == "AUTOMATIC"), concept_of(name), by, algorithm,
            tracking_uid=self.uid("segment", name), tracking_id=text(name), display_color=CIELabColor.from_rgb(*colour),
        )  # fmt: skip
        side = side_of(name)
        if side is not None:
            modifier = CodedConcept(side.value, side.scheme_designator, side.meaning)
            one.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
        return one

    def _colours(self) -> Mapping[str, Sequence[int]]:
        given = self.explanation.document["model"].get("colours") or ()
        return dict(zip(self.explanation.labels, given, strict=False))

    def _frames(self, volume: Volume | tuple[np.ndarray, Grid]) -> Any:
        """Return voxels (i, j, k) or (i, j, k, segments) as highdicom has them: slices, rows, columns; it sorts the slices."""
        import highdicom

        voxels, grid = (volume.voxels, volume.grid) if isinstance(volume, Volume) else volume
        affine = (_RAS_TO_LPS @ grid.affine)[:, [2, 1, 0, 3]]
        voxels = np.moveaxis(voxels, (0, 1, 2), (2, 1, 0))
        numbers = list(range(1, voxels.shape[3] + 1)) if voxels.ndim == 4 else None
        return highdicom.Volume(
            np.ascontiguousarray(voxels), affine, "PATIENT",
            frame_of_reference_uid=str(self.source.headers[0].FrameOfReferenceUID),
            channels={"SegmentNumber": numbers} if numbers else None,
        )  # fmt: skip
