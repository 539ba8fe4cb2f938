"""What is remembered between sessions: models that the user added, the interpreter, where results are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from Agg2ExpLib.panel.compute.interpreter import INTERPRETER_SETTING

MODELS_SETTING = "Agg2Exp/Models"
RESULTS_SETTING = "Agg2Exp/ResultsFolder"
PROFILE_SETTING = "Agg2Exp/ReferenceProfile"
BATCH_SETTING = "Agg2Exp/Batch"
_MOST_MODELS = 50


class UserSettings:
    """The user's settings.

    Parameters
    ----------
    settings : QSettings
        Slicer's own, or a file's for a test.
    """

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def models(self) -> list[str]:
        """Return folders and files of models that the user added, oldest first."""
        try:
            found = json.loads(str(self._settings.value(MODELS_SETTING) or "[]"))
        except ValueError:
            return []
        return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []

    def add_model(self, path: str | Path) -> None:
        """Remember a model."""
        text = str(path)
        kept = [item for item in self.models() if item != text]
        self._settings.setValue(MODELS_SETTING, json.dumps([*kept, text][-_MOST_MODELS:]))

    def interpreter(self) -> str:
        """Return the Python that the user named; empty for Slicer's own."""
        return str(self._settings.value(INTERPRETER_SETTING) or "")

    def results_folder(self) -> Path:
        """Return the folder under which explanations are kept; it may not exist yet."""
        given = str(self._settings.value(RESULTS_SETTING) or "")
        return Path(given) if given else Path.home() / "Documents" / "Agg2Exp"

    def profile(self) -> str:
        """Return the reference profile that was opened last; empty when there is none."""
        return str(self._settings.value(PROFILE_SETTING) or "")

    def set_profile(self, path: str | Path) -> None:
        """Remember a reference profile."""
        self._settings.setValue(PROFILE_SETTING, str(path))

    def batch(self) -> str:
        """Return the batch that is not finished, as text; empty when there is none."""
        return str(self._settings.value(BATCH_SETTING) or "")

    def set_batch(self, text: str) -> None:
        """Remember a batch; an empty text forgets it."""
        self._settings.setValue(BATCH_SETTING, text)

    def set_results_folder(self, folder: str | Path) -> None:
        """Keep explanations there from now on."""
        self._settings.setValue(RESULTS_SETTING, str(folder))
