"""The Explanation folder: the contract between everything that computes and everything that shows.

::

    DIR/
      explanation.json             method, settings, hashes, versions, timings: enough to repeat it; written last
      importance.csv               one row per explained class, one column per region: mass accuracy (equation 7)
      importance_long.csv          class, roi, mass, positive, negative, mean_density, enrichment, voxels
      prediction.nii.gz            label values on the input's own grid
      attributions/<class>.nii.gz  float32 on the model's grid
      attributions/<class>_channel_<channel>.nii.gz   of each channel, where the model has several
      importance_channels.csv                         a channel's share of the whole, and a region's share of the channel
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
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import ImportanceTable
from Agg2ExpLib.storage import Kind, path_within, safe_file_name, write_folder, write_table
from Agg2ExpLib.volume import Volume, read_volume

if TYPE_CHECKING:
    from Agg2ExpLib.case.attribution import SupervoxelValues

FORMAT = "agg2exp-explanation"
FORMAT_VERSION = 1
DOCUMENT = "explanation.json"
#: Overwriting replaces only what this program has made: never a folder of somebody's scans.
KIND = Kind("an Explanation folder", lambda folder: (folder / DOCUMENT).is_file())
SUPERVOXELS_FILE = "model_grid/supervoxels.nii.gz"
#: Values of a game while it is played, for a resumed run; gone from a finished folder.
CHANNELS_FILE = "importance_channels.csv"
CHANNEL_COLUMNS = ("class", "channel", "roi", "channel_share", "mass")
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
        missing = [name for name in document["files"] if not path_within(folder, name).is_file()]
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

    def to_frame(self) -> Any:
        """Return the importance table as a pandas data frame."""
        return self.importance.to_frame()

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

    def check_explained(self, names: Iterable[str]) -> None:
        """Refuse a class that has no attribution.

        Raises
        ------
        InputError
            With the ones that have.
        """
        for name in names:
            if name not in self.explained:
                raise InputError(
                    f"{self.folder} has no attribution of {name!r}; explained are {', '.join(self.explained)}"
                )

    def attribution(self, name: str) -> Volume:
        """Attribution of one class: float32, on the model's grid.

        Raises
        ------
        InputError
            The class was not explained.
        """
        self.check_explained([name])
        volume = read_volume(self._file("classes", name, attribution_file(name)), kind="map")
        return Volume(volume.voxels.astype(np.float32, copy=False), volume.grid, volume.source)

    def region(self, name: str) -> Volume:
        """Mask of one extra region on the model's grid."""
        if name not in self.regions:
            raise InputError(f"{self.folder} has no region {name!r}; there are {', '.join(self.regions) or 'none'}")
        return read_volume(self._file("regions", name, region_file(name)), kind="labels")

    def _file(self, part: str, name: str, usual: str) -> Path:
        """The file that the document names, for names were made files of differently once; only one that was checked."""
        entry = next(entry for entry in self.document[part] if entry["id"] == name)
        stated = entry.get("file")
        return path_within(self.folder, stated if stated in self.document["files"] else usual)


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
    rows = zip(table.names, table.voxels, table.values, table.errors, strict=True)
    numbered = [
        [number, name, int(voxels), repr(float(value)), repr(float(error))]
        for number, (name, voxels, value, error) in enumerate(rows, start=1)
    ]
    write_table(path, SUPERVOXEL_COLUMNS, numbered)


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
            f"{path} has format version {version!r:.40}, this Agg2Exp reads up to {FORMAT_VERSION}; update Agg2Exp to open it"
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


def longest_file(labels: Sequence[str], channels: Sequence[str]) -> str:
    """Return the longest path within an Explanation folder of these classes and channels."""
    files = [channel_file(label, channel) for label in labels for channel in channels if len(channels) > 1]
    return max((*files, *map(supervoxel_file, labels)), key=len)


@contextlib.contextmanager
def new_explanation(target: Path, fingerprint: str, longest: str, *, overwrite: bool, resume: bool) -> Iterator[Path]:
    """Yield a hidden folder with the places of an explanation's files; it gets its name when the block ends.

    Parameters
    ----------
    target : Path
        The Explanation folder to make.
    fingerprint : str
        What was asked for; finished classes of a stopped run serve only a run of the same.
    longest : str
        See :func:`longest_file`.
    overwrite, resume : bool
        As for an explanation.
    """
    keep = "attributions/*.json" if resume else ""
    with write_folder(target, KIND, overwrite=overwrite, fingerprint=fingerprint, keep=keep, longest=longest) as folder:
        for name in ("attributions", "model_grid", "regions"):
            (folder / name).mkdir(exist_ok=True)
        yield folder
        with contextlib.suppress(OSError):
            (folder / "regions").rmdir()
