"""Synthetic DICOM files for tests: single slices, enhanced multi-frame files, segmentations and structure sets."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT, ENHANCED_MR = f"{CT}.1", f"{MR}.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
PRESENTATION = "1.2.840.10008.5.1.4.1.1.11.1"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"


def item(**values):
    """Return a dataset of these attributes."""
    one = Dataset()
    for key, value in values.items():
        setattr(one, key, value)
    return one


def start(sop_class, **values):
    """Return a dataset that can be saved."""
    data, meta = Dataset(), FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = values.setdefault("SOPInstanceUID", generate_uid())
    data.file_meta, data.SOPClassUID = meta, sop_class
    defaults = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    for key, value in {**defaults, **values}.items():
        if value is not None:
            setattr(data, key, value)
    return data


def save(data, path):
    """Write a dataset as a DICOM file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def pixels(data, stored):
    """Give a dataset stored pixels of 16 bits; shape (rows, columns) or (frames, rows, columns)."""
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(stored.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<")).tobytes()


def decimal(values):
    """Return numbers as DICOM's decimal strings hold them: 16 characters."""
    return [f"{value:.10g}"[:16] for value in values]


def write_slice(
    path, hu, position, spacing=(2.0, 2.0), axes=((1, 0, 0), (0, 1, 0)), slope=1.0, intercept=-1024.0, **values
):
    """Write one slice; hu has shape (rows, columns), spacing is (between columns, between rows), places are LPS."""
    values = {"Modality": "CT", "SeriesNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], **values}
    data = start(values.pop("sop_class", CT), **values)
    pixels(data, np.rint((hu - intercept) / slope).astype(np.int16))
    placed = {
        "ImagePositionPatient": decimal(position),
        "ImageOrientationPatient": decimal(np.ravel(axes)),
        "PixelSpacing": decimal(spacing[::-1]),
        "RescaleSlope": f"{slope:g}",
        "RescaleIntercept": f"{intercept:g}",
    }
    for key, value in placed.items():
        if key not in values:
            setattr(data, key, value)
    return save(data, path)


def write_series(folder, hu, spacing=(2.0, 2.0, 3.0), origin=(0.0, 0.0, 0.0), axes=((1, 0, 0), (0, 1, 0)), step=None,
                 name="IM{:04d}.dcm", change=lambda k: {}, **values):  # fmt: skip
    """Write hu[k, row, column]; ``step`` is the vector between slices, along the normal by default."""
    step = np.cross(*axes) * spacing[2] if step is None else np.asarray(step, float)
    for k, one in enumerate(hu):
        given = {
            "position": np.asarray(origin) + k * step,
            "spacing": spacing[:2],
            "axes": axes,
            "InstanceNumber": k + 1,
        }
        given.update(change(k))
        write_slice(Path(folder) / name.format(k), one, **{**values, **given})
    return Path(folder)


def write_enhanced(path, hu, positions, sop_class=ENHANCED_CT, spacing=(2.0, 2.0), axes=((1, 0, 0), (0, 1, 0)),
                   change=lambda k: {}, scale=(1.0, -1024.0), **values):  # fmt: skip
    """Write a multi-frame file; ``change(k)`` are attributes of frame k's content item, or other items by name."""
    data = start(sop_class, **{"Modality": "CT", "SeriesNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY"], **values})
    pixels(data, np.rint((hu - scale[1]) / scale[0]).astype(np.int16))
    data.NumberOfFrames = len(hu)
    shared = item(PixelMeasuresSequence=[item(PixelSpacing=list(spacing[::-1]))],
                  PlaneOrientationSequence=[item(ImageOrientationPatient=list(np.ravel(axes).astype(float)))])  # fmt: skip
    if scale is not None:
        shared.PixelValueTransformationSequence = [
            item(RescaleSlope=scale[0], RescaleIntercept=scale[1], RescaleType="HU")
        ]
    frames = []
    for k, position in enumerate(positions):
        changed = dict(change(k))
        frame = item(PlanePositionSequence=[item(ImagePositionPatient=list(map(float, position)))])
        for key in [key for key in changed if key.endswith("Sequence")]:
            setattr(frame, key, changed.pop(key))
        frame.FrameContentSequence = [item(StackID=changed.pop("StackID", "1"), **changed)]
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    return save(data, path)


def write_segmentation(path, masks, names, spacing=(2.0, 2.0, 3.0), origin=(0.0, 0.0, 0.0), kind="BINARY", measures=None,
                       **values):  # fmt: skip
    """Write masks[k, row, column], one a segment; frames without a voxel are left out, as most writers do.

    ``measures`` replaces what is said of slices: by default a SliceThickness.
    """
    data = start(SEGMENTATION, **{"Modality": "SEG", "SeriesInstanceUID": "1.2.3.9", **values})
    frames, stored = [], []
    for number, mask in enumerate(masks, 1):
        for k in np.flatnonzero(np.asarray(mask).any(axis=(1, 2))):
            place = [origin[0], origin[1], origin[2] + k * spacing[2]]
            frames.append(item(PlanePositionSequence=[item(ImagePositionPatient=place)],
                               SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)]))  # fmt: skip
            stored.append(mask[k])
    stored = np.array(stored)
    data.Rows, data.Columns = masks[0].shape[1:]
    data.NumberOfFrames, data.SegmentationType = len(frames), kind
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    if kind == "BINARY":
        data.BitsAllocated = data.BitsStored = 1
        data.HighBit = 0
        packed = np.packbits(stored.astype(bool).ravel(), bitorder="little").tobytes()
        data.PixelData = packed + b"\0" * (len(packed) % 2)
    else:
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.MaximumFractionalValue = 7, 200
        data.PixelData = np.rint(stored * 200).astype(np.uint8).tobytes()
    data.SegmentSequence = [item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(names, 1)]
    data.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[item(PixelSpacing=list(spacing[1::-1]), **(measures or {"SliceThickness": spacing[2]}))],
             PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    ]  # fmt: skip
    data.PerFrameFunctionalGroupsSequence = frames
    return save(data, path)


def write_structure_set(path, contours, frame_of_reference="1.2.3.5", kind="CLOSED_PLANAR", **values):
    """Write a structure set; contours maps a name to a list of (n, 3) points, LPS millimetres; values: of each contour."""
    data = start(STRUCTURE_SET, Modality="RTSTRUCT", FrameOfReferenceUID=None)
    data.StructureSetROISequence = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame_of_reference)
        for n, name in enumerate(contours, 1)
    ]
    data.ROIContourSequence = [
        item(ReferencedROINumber=n, ContourSequence=[
            item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=decimal(np.ravel(points)), **values)
            for points in given])
        for n, given in enumerate(contours.values(), 1)
    ]  # fmt: skip
    return save(data, path)


def read_back(path):
    """Return the dataset of a file."""
    return pydicom.dcmread(path)
