"""What a model's card and readme tell of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.training.cases import Case
from Agg2ExpLib.training.settings import TrainingSettings


def training_record(
    settings: TrainingSettings,
    command: str,
    cases: Sequence[Case],
    held_out: Sequence[Case],
    dice: Mapping[str, float],
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the ``training`` entry of the model's card, in plain JSON values.

    Parameters
    ----------
    settings, command
        The recipe, and the command line that gave it.
    cases, held_out
        What was trained and validated on.
    dice
        Validation Dice per class; NaN, where no case has the class, becomes ``None``.
    before
        The record of the model that training began with.
    """
    return {
        "command": command,
        "settings": settings.to_dict(),
        "cases": len(cases),
        "validation_cases": [case.name for case in held_out],
        "validation_dice": {name: value if math.isfinite(value) else None for name, value in dice.items()},
        "before": before,
    }


def training_of(start: str) -> dict[str, Any] | None:
    """Return the record of the model that training begins with, so that the new card tells the whole story."""
    if not start:
        return None
    from Agg2ExpLib.models import load_model

    training = load_model(start).card.extra.get("training")
    return training if isinstance(training, dict) else None


def mean_dice(table: Mapping[str, float | None]) -> float:
    """Mean over the classes that were there; NaN when none was.

    Examples
    --------
    >>> mean_dice({"heart": 0.9, "aorta": 0.7, "trachea": None})
    0.8
    """
    there = [value for value in table.values() if value is not None and math.isfinite(value)]
    return math.fsum(there) / len(there) if there else math.nan


def model_readme(card: ModelCard) -> str:
    """Text of the model folder's docs/README.md: what it is, the commands that made it, the validation table."""
    training = card.extra["training"]
    table = training["validation_dice"]
    commands: list[str] = []
    stage: dict[str, Any] | None = training
    while stage:
        commands.insert(0, str(stage.get("command") or "not recorded"))
        stage = stage.get("before")
    made = "\n\n".join(f"```\n{command}\n```" for command in commands)
    rows = "\n".join(
        f"| {name} | {'in no validation case' if value is None else f'{value:.3f}'} |" for name, value in table.items()
    )
    return (
        f"# {card.name}\n\n{card.description}\n\n"
        f"Made by{', one after the other' if len(commands) > 1 else ''}:\n\n{made}\n\n"
        f"Dice on the validation cases, per class (mean over classes {mean_dice(table):.3f}):\n\n"
        f"| class | Dice |\n|---|---|\n{rows}\n"
    )
