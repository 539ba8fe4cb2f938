"""Explanation folders of scans that were read from DICOM series."""

import json

from dicom_writing import write_series
from small_explanations import write_explanation

from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.volume import read_volume, reorient, write_volume


def write_dicom_explanation(folder, kind="oblique", *, change=None, **values):
    """Write a DICOM series and an Explanation folder of it; return the explanation and the series' folder.

    The model's grid lies as ``kind`` says (:func:`small_explanations.affine`), the scan's slices along its axes.
    ``change`` alters the document; ``values`` are attributes of the slices.
    """
    made = write_explanation(folder / "explanation", kind)
    scan = reorient(made.model_image(), "LPS")
    across, down = (scan.grid.direction[:, axis] * (-1, -1, 1) for axis in (0, 1))
    step = scan.affine[:3, 2] * (-1, -1, 1)
    series = write_series(
        folder / "series", scan.voxels.transpose(2, 1, 0), scan.spacing, scan.affine[:3, 3] * (-1, -1, 1), (across, down), step,
        change=lambda k: {"SOPInstanceUID": f"1.2.3.4.{k + 1}"},
        **{"PatientName": "Müller^Eva", "PatientID": "P-7", "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20260102",
           "AccessionNumber": "A12", "StudyInstanceUID": "1.2.3", "PatientAge": "063Y", **values},
    )  # fmt: skip
    read = read_volume(series)
    prediction = reorient(made.prediction(), read.grid.axcodes)
    write_volume(prediction, made.folder / "prediction.nii.gz")
    document = json.loads((made.folder / "explanation.json").read_text())
    document["image"] = {
        "name": series.name, "path": str(series), "sha256": read.sha256, "shape": list(read.shape),
        "affine": read.affine.tolist(),
        "dicom": {"study": read.dicom.study, "series": read.dicom.series,
                  "frame_of_reference": read.dicom.frame_of_reference, "part": ""},
    }  # fmt: skip
    if change:
        change(document)
    (made.folder / "explanation.json").write_text(json.dumps(document))
    return Explanation.load(made.folder), series
