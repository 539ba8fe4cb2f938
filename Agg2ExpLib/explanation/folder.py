"""The Explanation folder: the contract between everything that computes and everything that shows.

::

    DIR/
      explanation.json             method, settings, hashes, versions, timings: enough to repeat it; written last
      importance.csv               one row per explained class, one column per region: mass accuracy (equation 7)
      importance_long.csv          class, roi, mass, positive, negative, mean_density, enrichment, voxels
      prediction.nii.gz            label values on the input's own grid
      attributions/<class>.nii.gz  float32 on the model's grid
      attributions/<class>_channel_<channel>.nii.gz   of each channel, where the model has several
      model_grid/image.nii.gz      the scan as the network saw it, in its own units (HU, clipped), on the model's grid
      model_grid/prediction.nii.gz label values on the model's grid: what importance was summed over
      regions/<roi>.nii.gz         extra regions on the model's grid

and, of methods that remove supervoxels::

      model_grid/supervoxels.nii.gz           1 to p on the model's grid; 0 was never removed
      attributions/<class>_supervoxels.csv    supervoxel, name, voxels, value, standard_error

The folder is made under a hidden temporary name beside its place and renamed when complete.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import safe_file_name
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.importance import ImportanceTable
from Agg2ExpLib.storage.files import replace_folder, sync_folder
from Agg2ExpLib.volume import Volume, read_volume

if TYPE_CHECKING:
    from Agg2ExpLib.case.attribution import SupervoxelValues

FORMAT = "agg2exp-explanation"
FORMAT_VERSION = 1
DOCUMENT = "explanation.json"
SUPERVOXELS_FILE = "model_grid/supervoxels.nii.gz"
#: Values of a game while it is played, for a resumed run; gone from a finished folder.
GAME_FILE = "attributions/game.json"
SUPERVOXEL_COLUMNS = ("supervoxel", "name", "voxels", "value", "standard_error")
# An honest document of 1000 classes stays far below this.
_LARGEST_DOCUMENT = 64 * 1024**2
# What readers look up; a document that lacks one is refused on reading rather than in the middle of showing it.
_READ_PARTS = {
    "": ("settings", "device", "messages", "timings", "image", "model"),
    "settings": ("method",),
    "timings": ("total_seconds",),
    "image": ("name", "shape", "affine"),
    "model": ("name", "path", "sha256", "labels", "spacing_mm", "intensity_range", "window", "overlap", "blending"),
}


@dataclass(frozen=True)
class Explanation:
    """A finished explanation on disk. Volumes are read when asked for; nothing needs torch.

    Attributes
    ----------
    folder : Path
        Where it lies.
    document : mapping
        The contents of ``explanation.json``.
    importance : ImportanceTable
        RoI importance of every explained class.
    """

    folder: Path
    document: Mapping[str, Any]
    importance: ImportanceTable

    @classmethod
    def load(cls, folder: str | Path) -> Explanation:
        """Read an Explanation folder.

        Raises
        ------
        InputError
            Not an Explanation folder, an incomplete one, or one of a newer format.
        """
        folder = Path(folder)
        document = _read_document(folder)
        missing = [name for name in document["files"] if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder} is incomplete: {missing[0]} is missing"
                + (f" and {len(missing) - 1} more files" if len(missing) > 1 else "")
                + "; copy the whole folder again or repeat the explanation"
            )
        table = ImportanceTable.from_long_csv(folder / "importance_long.csv")
        told = tuple(entry["id"] for entry in document["classes"])
        if table.classes != told:
            raise InputError(
                f"{folder / 'importance_long.csv'} has other classes than {DOCUMENT} tells of; repeat the explanation"
            )
        return cls(folder, document, table)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the model, class 0 first."""
        return tuple(self.document["model"]["labels"])

    @property
    def explained(self) -> tuple[str, ...]:
        """Names of the classes that have an attribution (those asked for and present in the prediction)."""
        return tuple(entry["id"] for entry in self.document["classes"] if entry["status"] == "explained")

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the extra regions."""
        return tuple(entry["id"] for entry in self.document["regions"])

    def prediction(self) -> Volume:
        """Classes, by number, on the input's own grid; the file has the numbers of the model's makers."""
        found = read_volume(self.folder / "prediction.nii.gz", kind="labels")
        values = self.document["model"].get("label_values", [])
        if list(values) == sorted(range(len(values))):
            return found
        classes = np.zeros(found.shape, dtype=found.voxels.dtype)
        for index, value in enumerate(values):
            classes[found.voxels == value] = index
        return replace(found, voxels=classes)

    def model_prediction(self) -> Volume:
        """Label values on the model's grid."""
        return read_volume(self.folder / "model_grid" / "prediction.nii.gz", kind="labels")

    def model_image(self) -> Volume:
        """The scan on the model's grid, HU clipped to the model's range."""
        return read_volume(self.folder / "model_grid" / "image.nii.gz")

    def attribution(self, name: str) -> Volume:
        """Attribution of one class: float32, on the model's grid.

        Raises
        ------
        InputError
            The class was not explained.
        """
        if name not in self.explained:
            raise InputError(f"{self.folder} has no attribution of {name!r}; explained are {', '.join(self.explained)}")
        volume = read_volume(self.folder / attribution_file(name), kind="map")
        return Volume(volume.voxels.astype(np.float32, copy=False), volume.grid, volume.source)

    def region(self, name: str) -> Volume:
        """Mask of one extra region on the model's grid."""
        if name not in self.regions:
            raise InputError(f"{self.folder} has no region {name!r}; there are {', '.join(self.regions) or 'none'}")
        return read_volume(self.folder / region_file(name), kind="labels")


def attribution_file(name: str) -> str:
    """Path of a class's attribution within the folder."""
    return f"attributions/{safe_file_name(name)}.nii.gz"


def region_file(name: str) -> str:
    """Path of an extra region's mask within the folder."""
    return f"regions/{safe_file_name(name)}.nii.gz"


def channel_file(name: str, channel: str) -> str:
    """Path of a class's attribution of one channel within the folder; only of scans of several."""
    return f"attributions/{safe_file_name(name)}_channel_{safe_file_name(channel)}.nii.gz"


def supervoxel_file(name: str) -> str:
    """Path of a class's table of supervoxels within the folder."""
    return f"attributions/{safe_file_name(name)}_supervoxels.csv"


def write_supervoxel_table(table: SupervoxelValues, path: Path) -> None:
    """Write what each supervoxel is worth to one class, with standard errors."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(SUPERVOXEL_COLUMNS)
        rows = zip(table.names, table.voxels, table.values, table.errors, strict=True)
        for number, (name, voxels, value, error) in enumerate(rows, start=1):
            writer.writerow([number, name, int(voxels), repr(float(value)), repr(float(error))])


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one that agg2exp explain has written")
    if not path.is_file():
        raise InputError(
            f"{folder} is not an Explanation folder: it has no {DOCUMENT}; give one that agg2exp explain has written"
        )
    try:
        if path.stat().st_size > _LARGEST_DOCUMENT:
            raise InputError(f"{path} is too large to be an explanation's description; repeat the explanation")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); repeat the explanation") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(
            f"{path} does not describe an Agg2Exp explanation; give a folder that agg2exp explain has written"
        )
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version!r}, this Agg2Exp reads up to {FORMAT_VERSION}; update Agg2Exp to open it"
        )
    _check_shape(document, path)
    return document


def _check_shape(document: dict[str, Any], path: Path) -> None:
    """Refuse a document whose parts are not what readers rely on, file names that point elsewhere above all."""
    try:
        labels = document["model"]["labels"]
        good = all(isinstance(label, str) for label in labels)
        for part, keys in _READ_PARTS.items():
            holder = document[part] if part else document
            missing = [key for key in keys if key not in holder]
            if missing:
                raise KeyError(f"{part}.{missing[0]}".lstrip("."))
        good = good and isinstance(document["messages"], list)
        good = good and all(isinstance(document["model"][key], str) for key in ("name", "path", "sha256"))
        good = good and all(0 < int(size) < 2**16 for size in document["image"]["shape"])
        good = good and len(document["image"]["shape"]) == 3
        good = good and all({"id", "status"} <= set(entry) for entry in document["classes"])
        good = good and all("id" in entry for entry in document["regions"])
        files = document["files"]
        good = good and isinstance(files, list) and all(isinstance(name, str) for name in files)
        inside = all(not os.path.isabs(name) and ".." not in Path(name).parts for name in files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path} lacks {error}; repeat the explanation") from error
    if not good:
        raise InputError(f"{path} has parts of the wrong kind; repeat the explanation")
    if not inside:
        raise InputError(f"{path} names files outside of its folder; do not use it")


def partial_folder(target: Path) -> Path:
    """Return where a folder is built before it gets its name; one that is left there is of a process that was killed."""
    return target.with_name(f".{target.name[:100]}.partial")


class Staging:
    """A folder under construction beside its final place; it gets its name only when everything is in it."""

    def __init__(self, target: Path, fingerprint: str, *, overwrite: bool, resume: bool) -> None:
        target = target.resolve()
        if target == Path.cwd():
            raise OutputError(f"{target} is the folder you are in, which cannot be replaced; give a new name to --out")
        self.target, self.fingerprint, self._resume, self._overwrite = target, fingerprint, resume, overwrite
        self._check_target()
        self.folder = partial_folder(target)
        self._lock = _Lock(self.folder.with_suffix(".lock"))

    def _check_target(self) -> None:
        target = self.target
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
        if not self._overwrite:
            raise OutputError(f"{target} exists already; give another --out, or --overwrite to replace it")
        _refuse_foreign(target)

    @contextlib.contextmanager
    def open(self) -> Iterator[Path]:
        """Yield the temporary folder; rename it on success, remove it on failure (or keep it, when resuming is asked)."""
        try:
            self._prepare()
        except OutputError:
            raise
        except OSError as error:
            self._lock.release()
            raise OutputError(
                f"cannot write to {self.target.parent}: {_reason(error)}; choose another --out"
            ) from error
        try:
            yield self.folder
            self._publish()
        except OSError as error:
            self._discard()
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write {self.target}: {_reason(error)}; free space or choose another --out"
            ) from error
        except BaseException:
            self._discard()
            raise
        finally:
            self._lock.release()

    @property
    def kept(self) -> bool:
        """Whether finished classes of a stopped run are kept for the next."""
        return self._resume and any((self.folder / "attributions").glob("*.json"))

    def _prepare(self) -> None:
        self._lock.acquire()
        marker = self.folder / "fingerprint"
        if self.folder.exists():
            same = marker.is_file() and marker.read_text(encoding="utf-8") == self.fingerprint
            if not (self._resume and same):
                shutil.rmtree(self.folder)
        for name in ("attributions", "model_grid", "regions"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        marker.write_text(self.fingerprint, encoding="utf-8")

    def _discard(self) -> None:
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self) -> None:
        (self.folder / "fingerprint").unlink()
        with contextlib.suppress(OSError):
            (self.folder / "regions").rmdir()
        sync_folder(self.folder)
        # It may have been filled while the work went on.
        self._check_target()
        replace_folder(self.folder, self.target)


class _Lock:
    """One run at a place. The system lets go of the lock when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: IO[bytes] | None = None

    def acquire(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stream = self.path.open("ab")
        try:
            _lock(stream)
        except OSError:
            stream.close()
            raise OutputError(
                f"another run is at work on {self.path.with_suffix('.partial')}; wait for it, or give another --out"
            ) from None
        self._stream = stream

    def release(self) -> None:
        if self._stream is not None:
            self.path.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None


def _lock(stream: IO[bytes]) -> None:
    """Take the lock of an open file, or raise OSError when another has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_text(path: Path, text: str) -> None:
    """Write a text file and make sure that it is on the disk."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _refuse_foreign(target: Path) -> None:
    """Overwrite only what this program has made: never a folder of somebody's scans."""
    if target.is_dir() and (not any(target.iterdir()) or (target / DOCUMENT).is_file()):
        return
    raise OutputError(f"{target} is not an Explanation folder, so --overwrite does not replace it; give another --out")


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return error.strerror or str(error)
