"""Values already computed for a game, by window and coalition; on disk too when a run must survive a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

Key = tuple[int, bytes]


class ValueStore:
    """Remembers one vector of numbers per (window, coalition within it).

    Parameters
    ----------
    path : Path, optional
        A file of JSON lines that finished values are added to, and that a later run reads.
    identity : str
        What the values depend on. A file of another identity is started anew.
    """

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self._values: dict[Key, np.ndarray] = {}
        self._stream: TextIO | None = None
        if path is not None:
            kept = self._read(path, identity)
            # Written anew, so that a line cut short by a kill does not stay.
            self._stream = path.open("w", encoding="utf-8", newline="\n")
            self._write({"identity": identity})
            self.add(kept)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __getitem__(self, key: Key) -> np.ndarray:
        return self._values[key]

    def add(self, found: Sequence[tuple[Key, np.ndarray]]) -> None:
        """Remember values."""
        for key, values in found:
            self._values[key] = values
            if self._stream:
                self._write({"window": key[0], "kept": key[1].hex(), "values": values.tolist()})
        if self._stream:
            self._stream.flush()

    def close(self) -> None:
        """Close the file; the values stay."""
        if self._stream:
            self._stream.close()
            self._stream = None

    def _write(self, line: dict[str, object]) -> None:
        assert self._stream is not None  # callers check
        self._stream.write(json.dumps(line) + "\n")

    @staticmethod
    def _read(path: Path, identity: str) -> list[tuple[Key, np.ndarray]]:
        if not path.is_file():
            return []
        found: list[tuple[Key, np.ndarray]] = []
        with path.open(encoding="utf-8", errors="replace") as stream:
            try:
                if json.loads(stream.readline()).get("identity") != identity:
                    return []
                for text in stream:
                    line = json.loads(text)
                    values = np.array(line["values"], dtype=np.float64)
                    found.append(((int(line["window"]), bytes.fromhex(line["kept"])), values))
            except (ValueError, KeyError, TypeError, AttributeError):
                # The rest of the file was cut short; what came before it is good.
                return found
        return found
