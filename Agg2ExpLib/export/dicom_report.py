"""The importance table as a DICOM structured report: one measurement group of TID 1500 for every explained structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from Agg2ExpLib.export.codes import category_of, concept_of, own_code, side_of, text

if TYPE_CHECKING:
    from Agg2ExpLib.export.dicom import Objects

#: Measure of the table -> its name in a report.
REPORTED = {
    "mass": "Share of the attribution in the region (mass accuracy)",
    "enrichment": "Share of the attribution over share of the volume",
}
_PROCEDURES = {"CT": "ComputedTomography"}


def report_of(made: Objects, classes: Sequence[str], segmentation: Any, regions: Any, maps: Mapping[str, Any]) -> Any:
    """Return the report.

    Parameters
    ----------
    made : Objects
        The explanation, and which segments there are.
    classes : sequence of str
        Explained structures to tell of.
    segmentation, regions : Dataset, optional
        The segmentations.
    maps : mapping of str to Dataset
        Parametric maps by class.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    headers = made.source.headers
    device = sr.ObserverContext(
        codes.DCM.Device, sr.DeviceObserverIdentifyingAttributes(uid=made.uid("observer"), name="Agg2Exp")
    )
    procedure = _PROCEDURES.get(str(headers[0].get("Modality")), "ImagingProcedure")
    content = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=device),
        getattr(codes.SCT, procedure),
        imaging_measurements=[_group(made, name, segmentation, maps[name]) for name in classes],
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = [*headers, *maps.values(), *(one for one in (segmentation, regions) if one is not None)]
    report = sr.Comprehensive3DSR(
        evidence, content, **made.identity("report", "report", 1), is_complete=True, record_evidence=True
    )
    return made.settled(report, "Agg2Exp RoI importance")


def _group(made: Objects, name: str, segmentation: Any, mapped: Any) -> Any:
    """What one structure's segmentation relied on: share and enrichment of every region, in the table's order."""
    from highdicom import sr

    table = made.explanation.importance
    row = table.classes.index(name)
    measurements = []
    for column, roi in enumerate(table.rois):
        for measure, words in REPORTED.items():
            value = float(table.matrix(measure)[row, column])
            if math.isfinite(value):
                measurements.append(_measurement(made, roi, (measure, words), value, mapped))
    common = {
        "tracking_identifier": sr.TrackingIdentifier(made.uid("group", name), text(name)),
        "finding_type": concept_of(name),
        "finding_category": category_of(name, True),
        "finding_sites": [_site(name)],
        "measurements": measurements,
        "algorithm_id": sr.AlgorithmIdentification(
            text(f"Agg2Exp {made.explanation.document['settings']['method']}"), made.identity("report", "", 1)["software_versions"]
        ),
    }  # fmt: skip
    kind, number = made.numbers.get(name, ("", 0))
    if kind != "segmentation":
        # A thin structure may have voxels on the model's grid and none on the scan's.
        return sr.MeasurementsAndQualitativeEvaluations(**common)
    segment = sr.ReferencedSegment(
        str(segmentation.SOPClassUID), str(segmentation.SOPInstanceUID), number,
        source_series=sr.SourceSeriesForSegmentation(str(made.source.headers[0].SeriesInstanceUID)),
    )  # fmt: skip
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)


def _measurement(made: Objects, roi: str, name: tuple[str, str], value: float, mapped: Any) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(
        own_code(*name),
        value,
        codes.UCUM.NoUnits,
        tracking_identifier=sr.TrackingIdentifier(made.uid("region", roi), text(roi)),
        finding_sites=[_site(roi)],
        referenced_images=[sr.SourceImageForMeasurement(str(mapped.SOPClassUID), str(mapped.SOPInstanceUID))],
    )


def _site(name: str) -> Any:
    from highdicom.sr import FindingSite

    return FindingSite(concept_of(name), laterality=side_of(name))
