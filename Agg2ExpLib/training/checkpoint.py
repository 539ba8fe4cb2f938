"""The state of a training run: a checkpoint that survives a kill at any moment, and logs that agree with it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.storage import new_file, write_file
from Agg2ExpLib.training.settings import TrainingSettings

# Losses of so many steps are kept: those that a row of the log averages.
LOG_EVERY = 25


@dataclass
class Run:
    """Everything that a checkpoint holds, and the process's place among its siblings.

    Attributes
    ----------
    settings : TrainingSettings
        The recipe; a checkpoint of another one is refused.
    cases : tuple of str
        Names of the training cases; a checkpoint of others is refused.
    folder : Path
        Holds ``checkpoint.pt``, ``log.csv`` and ``validation.csv``.
    device, rank, processes
        Where this process computes, which one it is, and how many there are.
    network, optimiser, scaler, averaged
        What is trained.
    step : int
        Steps done.
    losses : list of float
        Of the last steps, oldest first.
    whole : bool
        False while a step is under way, when weights, averages and count do not belong together.
    """

    settings: TrainingSettings
    cases: tuple[str, ...]
    folder: Path
    device: torch.device
    rank: int
    processes: int
    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    averaged: dict[str, torch.Tensor]
    step: int = 0
    losses: list[float] = field(default_factory=list)
    whole: bool = True

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint beside the old one and put it in place at once.

        Raises
        ------
        OutputError
            It cannot be written; the old one is still there.
        """
        if self.rank or not self.whole:
            return
        state = {
            "format_version": 1,
            "settings": json.dumps(self.settings.to_dict()),
            "cases": json.dumps(self.cases),
            "step": self.step,
            "losses": json.dumps(self.losses[-LOG_EVERY:]),
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        try:
            with new_file(self.checkpoint, option="--run") as part, part.open("wb") as stream:
                torch.save(state, stream)
        except RuntimeError as error:
            raise OutputError(f"cannot write {self.checkpoint}: {error}; free space or choose another --run") from error

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one of the same settings and cases.

        Raises
        ------
        InputError
            A checkpoint that is damaged, or of another run; the differing settings are named.
        """
        if self.checkpoint.is_file():
            try:
                state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
                self._refuse_another(json.loads(state["settings"]), json.loads(state.get("cases", "null")))
                self._take(state)
            except InputError:
                raise
            except Exception as error:  # torch raises many kinds for a damaged file
                raise InputError(
                    f"{self.checkpoint} cannot be read ({type(error).__name__}); remove it to start anew"
                ) from error
        if not self.rank:
            # A run that was killed had gone on, and logged, beyond its last checkpoint.
            for name in ("log.csv", "validation.csv"):
                keep_rows(self.folder / name, self.step)

    def final_weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that become the model."""
        return dict(self.averaged) if self.settings.average else self.network.state_dict()

    def _refuse_another(self, settings: dict[str, Any], cases: list[str] | None) -> None:
        now = json.loads(json.dumps(self.settings.to_dict()))
        different = sorted(key for key in now if settings.get(key) != now[key])
        if cases is not None and cases != list(self.cases):
            different.append("the training cases")
        if different:
            raise InputError(
                f"{self.checkpoint} was made with other settings ({', '.join(different)}); "
                "give the same ones to go on, or another --run folder"
            )

    def _take(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged = {name: tensor.to(self.device) for name, tensor in state["averaged"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.losses = int(state["step"]), list(json.loads(state.get("losses", "[]")))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a log, with the header before the first."""
    new = not path.exists()
    try:
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; free space or choose another --run") from error


def logged_steps(path: Path) -> list[int]:
    """Steps that have a row in a log."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream) if (row.get("step") or "").isdigit()]


def keep_rows(path: Path, last: int) -> None:
    """Drop the rows of a log that are beyond step ``last``, or torn."""
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines() or [""]
    fields = header.count(",")
    kept = [row for row in rows if row.count(",") == fields and row.split(",")[0].isdigit()]
    kept = [row for row in kept if int(row.split(",")[0]) <= last]
    if kept:
        write_file(path, "\n".join([header, *kept, ""]), option="--run")
    else:
        path.unlink()
