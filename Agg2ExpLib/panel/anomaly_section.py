"""Is this patient unusual? Says what it needs until a reference is loaded and something can score against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import qt

from Agg2ExpLib.panel import forms
from Agg2ExpLib.panel.signals import Signal

NEEDS = (
    "Load a reference profile: the explanations of many patients with the same model, against which this one is compared. "
    "It is made with the commands agg2exp cohort and agg2exp profile."
)


@dataclass(frozen=True)
class Verdict:
    """One structure against the reference.

    Attributes
    ----------
    structure : str
        Readable name.
    unusual : bool
        Whether it lies outside of the reference.
    percentile : float
        Share of the reference that is less unusual, 0 to 100.
    reason : str
        Which regions make it so, in plain words.
    """

    structure: str
    unusual: bool
    percentile: float
    reason: str = ""


class Scorer(Protocol):
    """What scores an explanation against a reference; the cohort's side provides it."""

    def __call__(self, profile: str, explanation: Any) -> Sequence[Verdict]:
        """Return a verdict per structure; raise InputError when profile and explanation do not belong together."""


class AnomalySection:
    """The fourth section.

    Attributes
    ----------
    open_pressed : Signal
        Without values.
    """

    def __init__(self, layout: Any) -> None:
        self.open_pressed = Signal()
        self.frame, inner = forms.section("Is this patient unusual?", layout, collapsed=True)
        self.profile = forms.note("no reference loaded")
        self.open = forms.button(
            "Open", self.open_pressed.emit, "Opens a reference profile.", name="open profile", small=True
        )
        forms.row(inner, qt.QLabel("Reference"), self.profile, self.open, stretch=1)
        self.needs = forms.note(NEEDS)
        self.needs.setObjectName("needs")
        inner.addWidget(self.needs)
        self.list = qt.QListWidget()
        self.list.setWordWrap(True)
        self.list.setVisible(False)
        self.list.setMaximumHeight(180)
        self.list.setAccessibleName("verdicts")
        inner.addWidget(self.list)

    def say(self, text: str) -> None:
        """Show what is needed or what went wrong; empty hides it."""
        self.needs.setText(text)
        self.needs.setVisible(bool(text))

    def show_verdicts(self, profile: str, verdicts: Sequence[Verdict]) -> None:
        """List the structures, the most unusual first."""
        self.profile.setText(profile)
        self.list.clear()
        for one in sorted(verdicts, key=lambda verdict: (not verdict.unusual, -verdict.percentile)):
            word = "UNUSUAL" if one.unusual else "usual"
            text = f"{one.structure}: {word}, {one.percentile:.1f} percentile"
            item = qt.QListWidgetItem(f"{text}\n{one.reason}" if one.reason else text)
            font = item.font()
            font.setBold(one.unusual)
            item.setFont(font)
            self.list.addItem(item)
        self.list.setVisible(bool(verdicts))
        self.say("" if verdicts else NEEDS)
