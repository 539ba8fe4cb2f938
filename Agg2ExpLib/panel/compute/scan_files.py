"""The scan that a child process reads: the user's own file while the scene holds the same, else a copy.

One copy serves every task until the scan changes.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel.nodes import to_world, volume_of
from Agg2ExpLib.storage import safe_file_name
from Agg2ExpLib.task_file import ScanOrigin

if TYPE_CHECKING:
    from Agg2ExpLib.volume import Volume

#: Uncompressed, because compressing a chest CT takes longer than writing it.
SUFFIX = ".nii"
# Millimetres by which a file's geometry may differ from the node's: the rounding of single precision.
_SAME_PLACE_MM = 1e-3


class ScanFile:
    """One state of one scan as a file.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        The scan; its voxels are copied now.
    """

    def __init__(self, node: Any) -> None:
        self.state = state_of(node)
        self._volume: Volume | None = volume_of(node)
        self._name = str(node.GetName())
        self._given, unchanged = file_of(node)
        self._candidate = self._given if unchanged else None
        self._dicom = dicom_of(node)
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._path: Path | None = None
        self._origin: ScanOrigin | None = None
        self._users, self._retired = 0, False

    def hand_over(self) -> tuple[Path, ScanOrigin]:
        """Return the file that the child reads, and where it came from; writes a copy when one is needed, once. In a thread."""
        from Agg2ExpLib.volume import file_sha256, write_volume

        with self._lock:
            if self._path is None or self._origin is None:
                assert self._volume is not None
                own = self._candidate is not None and holds(self._candidate, self._volume)
                path = self._candidate if own else None
                if path is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="Agg2Exp-"))
                    path = write_volume(self._volume, self._folder / f"{safe_file_name(self._name)}{SUFFIX}")
                given = "" if self._given is None else str(self._given)
                self._origin = ScanOrigin(self._name, given, file_sha256(path), bool(given) and not own, self._dicom)
                self._path, self._volume = path, None
            return self._path, self._origin

    def acquire(self) -> None:
        """Keep the copy until :meth:`release`."""
        self._users += 1

    def release(self) -> None:
        """Let the copy go, when nobody else uses it and it is out of date."""
        self._users -= 1
        self._remove_when_unused()

    def retire(self) -> None:
        """Remove the copy when its last user is done."""
        self._retired = True
        self._remove_when_unused()

    def _remove_when_unused(self) -> None:
        if self._retired and self._users <= 0 and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class ScanFiles:
    """Keeps the volumes that were handed over last: estimate, explanation and comparison read the same files."""

    def __init__(self) -> None:
        self._last: tuple[ScanFile, ...] = ()

    def of(self, node: Any) -> ScanFile:
        """Return a node's scan as it is now; see :meth:`all_of`."""
        return self.all_of([node])[0]

    def all_of(self, nodes: Sequence[Any]) -> tuple[ScanFile, ...]:
        """Return the scans of nodes as they are now, one a channel of the model.

        Raises
        ------
        InputError
            No voxels, or a transform that bends.
        """
        kept = {one.state: one for one in self._last}
        found = tuple(kept.get(state_of(node) or ()) or ScanFile(node) for node in nodes)
        for one in self._last:
            if one not in found:
                one.retire()
        self._last = found
        return found

    def clear(self) -> None:
        """Remove what nobody uses any more."""
        self.all_of([])


def state_of(node: Any) -> tuple[Any, ...] | None:
    """What changes when a scan is edited, moved or renamed; ``None`` without voxels."""
    import slicer.util

    if node is None or node.GetImageData() is None:
        return None
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    node.GetIJKToRASMatrix(matrix)
    place = to_world(node) @ slicer.util.arrayFromVTKMatrix(matrix)
    return node.GetID(), node.GetName(), node.GetImageData().GetMTime(), place.tobytes()


def file_of(node: Any) -> tuple[Path | None, bool]:
    """Return the file, or folder of a series, that a scan was read from, and whether Slicer knows of no change since.

    ``None`` when it was not read from a file, or that is gone.
    """
    storage = node.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return None, False
    names = {storage.GetFullNameFromFileName()}
    names |= {storage.GetFullNameFromNthFileName(index) for index in range(storage.GetNumberOfFileNames())}
    paths = [Path(name) for name in names]
    folders = {path.parent for path in paths}
    found = paths[0] if len(paths) == 1 else folders.pop() if len(folders) == 1 else None
    if found is None or not found.exists():
        return None, False
    moved = not np.array_equal(to_world(node), np.eye(4))
    return found.resolve(), not (node.GetModifiedSinceRead() or moved)


def holds(path: Path, volume: Volume) -> bool:
    """Whether a file holds just these voxels at these places: it may have been replaced since, or be read in another way."""
    from Agg2ExpLib.volume import read_volume

    try:
        found = read_volume(path)
    except Agg2ExpError:
        return False
    return (
        found.shape == volume.shape
        and bool(np.allclose(found.affine, volume.affine, rtol=0, atol=_SAME_PLACE_MM))
        and bool(np.array_equal(found.voxels, volume.voxels))
    )


def dicom_of(node: Any) -> dict[str, str]:
    """Return the DICOM UIDs of a scan's study, series and frame of reference, those that Slicer knows."""
    import slicer

    found: dict[str, str] = {}
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if tree is not None:
        names = slicer.vtkMRMLSubjectHierarchyConstants
        item = tree.GetItemByDataNode(node)
        study = tree.GetItemAncestorAtLevel(item, names.GetDICOMLevelStudy()) if item else 0
        found["series"] = tree.GetItemUID(item, names.GetDICOMUIDName()) if item else ""
        found["study"] = tree.GetItemUID(study, names.GetDICOMUIDName()) if study else ""
        frame = names.GetDICOMFrameOfReferenceUIDAttributeName()
        found["frame_of_reference"] = tree.GetItemAttribute(item, frame) if item else ""
    # The database of the desktop knows what the hierarchy does not tell.
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if instances and database is not None:
        for name, tag in (("study", "0020,000D"), ("series", "0020,000E"), ("frame_of_reference", "0020,0052")):
            found[name] = found.get(name) or str(database.instanceValue(instances[0], tag) or "")
    return {name: uid for name, uid in found.items() if uid}
