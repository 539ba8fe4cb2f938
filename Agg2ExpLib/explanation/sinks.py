"""Where an explanation goes as it comes about: a folder, or memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from Agg2ExpLib.case.attribution import Attribution
from Agg2ExpLib.case.case import Case
from Agg2ExpLib.explanation.folder import (
    CHANNEL_COLUMNS,
    CHANNELS_FILE,
    DOCUMENT,
    GAME_FILE,
    SUPERVOXELS_FILE,
    Explanation,
    attribution_file,
    channel_file,
    new_explanation,
    region_file,
    supervoxel_file,
    write_supervoxel_table,
)
from Agg2ExpLib.explanation.result import Result
from Agg2ExpLib.importance import ImportanceTable
from Agg2ExpLib.methods.games.supervoxels import Supervoxels
from Agg2ExpLib.storage import write_file, write_table
from Agg2ExpLib.volume import Volume, write_volume

# Whole numbers are fine enough for a range as wide as this, and pack to a third.
_ROUNDED_RANGE = 256

Row = Mapping[str, np.ndarray]
Finished = dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]]


class Sink(Protocol):
    """Takes the parts of an explanation in the order in which they are computed."""

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """Return what surrounds all work: nothing incomplete is left behind when it fails."""

    def finished(self, names: Sequence[str]) -> Finished:
        """Return rows and entries of classes that an earlier run finished."""

    @property
    def checkpoint(self) -> Path | None:
        """File in which a long game keeps its values."""

    def take_segmentation(self, case: Case, regions: Mapping[str, np.ndarray]) -> None:
        """Take the prediction, and the extra regions."""

    def take_supervoxels(self, case: Case, supervoxels: Supervoxels) -> None:
        """Take the division of the scan."""

    def take_class(self, case: Case, name: str, one: Attribution, row: Row, entry: Mapping[str, Any]) -> None:
        """Take one finished class."""

    def close(self, case: Case, table: ImportanceTable, document: dict[str, Any]) -> None:
        """Take what ends it."""

    def result(self) -> Any:
        """Return what the caller gets, after everything is in its place."""


class FolderSink:
    """The Explanation folder; it appears under its name only when complete."""

    def __init__(self, out: Path, fingerprint: str, longest: str, *, overwrite: bool, resume: bool) -> None:
        self.out = self._folder = out
        self._new = new_explanation(out, fingerprint, longest, overwrite=overwrite, resume=resume)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Build under a temporary name; publish on success."""
        with self._new as folder:
            self._folder = folder
            yield

    @property
    def checkpoint(self) -> Path | None:
        """Beside the attributions."""
        return self._folder / GAME_FILE

    def finished(self, names: Sequence[str]) -> Finished:
        """Read the notes of finished classes."""
        kept: Finished = {}
        for name in names:
            note = (self._folder / attribution_file(name)).with_suffix(".json")
            if note.is_file() and (self._folder / attribution_file(name)).is_file():
                try:
                    found = json.loads(note.read_text(encoding="utf-8"))
                    kept[name] = ({key: np.array(values) for key, values in found["row"].items()}, found["entry"])
                except (ValueError, KeyError):
                    # A note cut short by a kill: the class is simply computed again.
                    continue
        return kept

    def take_segmentation(self, case: Case, regions: Mapping[str, np.ndarray]) -> None:
        """Write prediction, scan and regions."""
        grid, folder = case.prepared.grid, self._folder
        write_volume(Volume(np.asarray(case.segmentation.labels), grid), folder / "model_grid" / "prediction.nii.gz")
        write_volume(case.prediction(), folder / "prediction.nii.gz")
        shown = case.prepared.display.voxels
        low, high = case.prepared.display_range or (float(shown.min()), float(shown.max()))
        if low >= -(2**15) and high < 2**15 and high - low >= _ROUNDED_RANGE:
            shown = np.rint(shown).astype(np.int16)
        write_volume(Volume(shown, grid), folder / "model_grid" / "image.nii.gz")
        for name, inside in regions.items():
            write_volume(Volume(inside.astype(np.uint8), grid), folder / region_file(name))

    def take_supervoxels(self, case: Case, supervoxels: Supervoxels) -> None:
        """Write the map."""
        write_volume(Volume(supervoxels.labels, case.prepared.grid), self._folder / SUPERVOXELS_FILE)

    def take_class(self, case: Case, name: str, one: Attribution, row: Row, entry: Mapping[str, Any]) -> None:
        """Write the attribution, and a note of it for a resumed run."""
        grid = case.prepared.grid
        full = one.full(case.prepared.shape).astype(np.float32)
        write_volume(Volume(full, grid), self._folder / attribution_file(name))
        if len(one.channels) > 1:
            for channel, values in zip(case.model.card.channels, one.channels, strict=True):
                full = np.zeros(case.prepared.shape, dtype=np.float32)
                full[one.box] = values
                write_volume(Volume(full, grid), self._folder / channel_file(name, channel))
        if one.supervoxels is not None:
            write_supervoxel_table(one.supervoxels, self._folder / supervoxel_file(name))
        text = json.dumps({"row": {key: values.tolist() for key, values in row.items()}, "entry": entry})
        write_file((self._folder / attribution_file(name)).with_suffix(".json"), text)

    def close(self, case: Case, table: ImportanceTable, document: dict[str, Any]) -> None:
        """Write the tables, then the document."""
        table.to_matrix_csv(self._folder / "importance.csv")
        table.to_long_csv(self._folder / "importance_long.csv")
        rows = [
            (entry["id"], channel, roi, repr(entry["channels"][channel]), "" if mass is None else repr(mass))
            for entry in document["classes"]
            for channel, masses in entry.get("channel_mass", {}).items()
            for roi, mass in zip(table.rois, masses, strict=True)
        ]
        if rows:
            write_table(self._folder / CHANNELS_FILE, CHANNEL_COLUMNS, rows)
        document["files"] = self._own_files(document, case.model.card.channels)
        write_file(self._folder / DOCUMENT, json.dumps(document, indent=1, allow_nan=False) + "\n")

    def result(self) -> Explanation:
        """Return the folder, read back."""
        return Explanation.load(self.out)

    def _own_files(self, document: Mapping[str, Any], channels: Sequence[str]) -> list[str]:
        """Return the files of this explanation; what a stopped run left beside them is removed."""
        own = {"importance.csv", "importance_long.csv", "prediction.nii.gz"}
        own |= {"model_grid/image.nii.gz", "model_grid/prediction.nii.gz"}
        own |= {entry["file"] for entry in (*document["classes"], *document["regions"]) if "file" in entry}
        own |= {supervoxel_file(entry["id"]) for entry in document["classes"] if "supervoxels" in entry}
        if len(channels) > 1:
            explained = [entry["id"] for entry in document["classes"] if "file" in entry]
            own |= {channel_file(name, channel) for name in explained for channel in channels}
            own |= {CHANNELS_FILE} if explained else set()
        if any("supervoxels" in entry for entry in document["classes"]):
            own.add(SUPERVOXELS_FILE)
        for path in [path for path in self._folder.rglob("*") if path.is_file()]:
            if path.relative_to(self._folder).as_posix() not in {*own, "fingerprint"}:
                path.unlink()
        return sorted(own)


class MemorySink:
    """Nothing is written: the parts stay as they are."""

    def __init__(self) -> None:
        self._attributions: dict[str, Attribution] = {}
        self._regions: Mapping[str, np.ndarray] = {}
        self._supervoxels: Supervoxels | None = None
        self._result: Result | None = None
        self.checkpoint: Path | None = None

    def opened(self) -> contextlib.AbstractContextManager[None]:
        """Nothing to clean up."""
        return contextlib.nullcontext()

    def finished(self, names: Sequence[str]) -> Finished:
        """Nothing is kept between runs."""
        return {}

    def take_segmentation(self, case: Case, regions: Mapping[str, np.ndarray]) -> None:
        """Keep the regions; the case has the prediction."""
        self._regions = regions

    def take_supervoxels(self, case: Case, supervoxels: Supervoxels) -> None:
        """Keep the division."""
        self._supervoxels = supervoxels

    def take_class(self, case: Case, name: str, one: Attribution, row: Row, entry: Mapping[str, Any]) -> None:
        """Keep the attribution."""
        self._attributions[name] = one

    def close(self, case: Case, table: ImportanceTable, document: dict[str, Any]) -> None:
        """Put everything together."""
        self._result = Result(case, document, table, self._attributions, self._regions, self._supervoxels)

    def result(self) -> Result:
        """Return it."""
        assert self._result is not None  # close came before
        return self._result
