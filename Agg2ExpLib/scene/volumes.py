"""Volumes as MRML volume nodes: arrays in k, j, i order, the affine as IJKToRAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume


def matrix_of(affine: np.ndarray) -> Any:
    """Return a vtkMatrix4x4 of a 4 x 4 array."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(affine).ravel()])
    return matrix


def affine_of(node: Any) -> np.ndarray:
    """Return a volume node's IJKToRAS, shape (4, 4); its parent transform is not applied."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    matrix = vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def fill_volume_node(node: Any, volume: Volume) -> None:
    """Put voxels and geometry of a volume into a volume node.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or vtkMRMLLabelMapVolumeNode
        Filled in place; the voxels are copied.
    volume : Volume
        64-bit integers become 32-bit, which is what MRML takes.
    """
    image = image_of(volume.voxels)
    node.SetIJKToRASMatrix(matrix_of(volume.affine))
    node.SetAndObserveImageData(image)


def image_of(voxels: np.ndarray) -> Any:
    """Return a vtkImageData in index space with a copy of the voxels, shape (i, j, k)."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    kind = voxels.dtype
    if kind == np.bool_:
        kind = np.dtype(np.uint8)
    elif kind.kind in "iu" and kind.itemsize == 8:
        kind = np.dtype(np.int32)
    # k, j, i order with i fastest is VTK's own; raveling the transposed array gives that.
    flat = np.ascontiguousarray(voxels.transpose(2, 1, 0), dtype=kind).ravel()
    image = vtkImageData()
    image.SetDimensions(*(int(count) for count in voxels.shape))
    scalars = numpy_to_vtk(flat, deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def array_of(node: Any) -> np.ndarray:
    """Return a view of a volume node's voxels, shape (i, j, k)."""
    return voxels_of(node.GetImageData())


def voxels_of(image: Any) -> np.ndarray:
    """Return a view of a vtkImageData's voxels, shape (i, j, k)."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    i, j, k = image.GetDimensions()
    array: np.ndarray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i).transpose(2, 1, 0)
    return array


def coded(value: str, scheme: str, meaning: str) -> Any:
    """Return a vtkCodedEntry (DICOM's triple of code, scheme and meaning)."""
    import slicer

    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(value, scheme, meaning)
    return entry
