"""A small picture of one structure against the reference: the cohort's scores with this patient, and the reasons' ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import qt
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.cohort.judge.reasons import percent, percent_range
from Agg2ExpLib.panel.words.verdicts import Reason, Verdict
from Agg2ExpLib.scene.reference_chart import LIMIT, PATIENT, REFERENCE, stacked

#: Pixels; fits the section of a panel 360 pixels wide.
WIDTH = 318
_MARGIN, _DOTS_HEIGHT, _BAR = 9, 66, 12
# Drawn larger than shown, so that it is sharp on fine screens.
_FINE = 2
_MOST_DOT = 6


@dataclass(frozen=True)
class Ink:
    """Colours of the words and of thin lines, taken from the theme."""

    words: Any
    lines: Any


def paint(verdict: Verdict, ink: Ink, width: int = WIDTH) -> Any:
    """Return the picture (QPixmap).

    Parameters
    ----------
    verdict : Verdict
        One that is ``plotted``.
    ink : Ink
        Of the theme.
    width : int
        Pixels.
    """
    line = int(qt.QFontMetrics(qt.QApplication.font()).height())
    reasons = [one for one in verdict.reasons if one.value is not None]
    height = 2 * line + _DOTS_HEIGHT + 2 * line + 6 + len(reasons) * (line + _BAR + 8) + (line + 4 if reasons else 0)
    pixmap = qt.QPixmap(width * _FINE, height * _FINE)
    pixmap.setDevicePixelRatio(_FINE)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    brush = _Brush(painter, ink, width, line)
    below = brush.scores(verdict)
    if reasons:
        brush.words(0, below + line, _("Share of the attribution, and its usual range:"))
        below += line + 4
    for reason in reasons:
        below = brush.reason(reason, below)
    painter.end()
    return pixmap


def in_words(verdict: Verdict, false_alarms: float) -> str:
    """Return what the picture shows, for those who do not see it.

    Examples
    --------
    >>> in_words(Verdict("heart", "usual", 43.0, (), 0.45, 0.58, (0.4, 0.5), 60), 0.05)
    'heart: score 0.450, higher than or equal to 43 % of 60 reference cases; unusual above 0.580 (false-alarm rate 5 %).'
    """
    return _(
        "{name}: score {score:.3f}, higher than or equal to {percentile} % of {counted} reference cases; "
        "unusual above {threshold:.3f} (false-alarm rate {alarms:g} %)."
    ).format(
        name=structure(verdict.structure).name,
        score=verdict.score,
        percentile=int(verdict.percentile),
        counted=verdict.counted,
        threshold=verdict.threshold,
        alarms=100 * false_alarms,
    )


class _Brush:
    """Draws the parts, each from a height downwards."""

    def __init__(self, painter: Any, ink: Ink, width: int, line: int) -> None:
        self.painter, self.ink, self.width, self.line = painter, ink, width, line

    def words(self, x: float, baseline: float, text: str, colour: Any = None, bold: bool = False) -> None:
        """Write a text that begins at ``x``, moved so that it stays within the picture."""
        font = qt.QFont(qt.QApplication.font())
        font.setBold(bold)
        self.painter.setFont(font)
        self.painter.setPen(qt.QPen(colour or self.ink.words))
        room = self.width - qt.QFontMetrics(font).horizontalAdvance(text)
        # Two pixels of the line's depth are under the baseline.
        self.painter.drawText(round(max(min(x, room), 0)), round(baseline) - 3, text)

    def scores(self, verdict: Verdict) -> int:
        """Draw dots, patient and limit over their axis; return the height where it ends."""
        score, threshold = float(verdict.score or 0), float(verdict.threshold or 0)
        known = [*verdict.reference, score, threshold]
        low, high = min(known), max(known)
        span = (high - low) or 1.0

        def at(value: float) -> float:
            return _MARGIN + (value - low) / span * (self.width - 2 * _MARGIN)

        ground = 2 * self.line + _DOTS_HEIGHT
        self._dots(verdict.reference, at, ground)
        self._upright(at(threshold), 2 * self.line, ground, _colour(LIMIT, self.ink), dashed=True)
        # Under both lines of words, which it would cross out.
        self._upright(at(score), 2 * self.line, ground, _colour(PATIENT), dashed=False)
        self.words(
            at(score) - 30, self.line, _("▼ this patient {score:.3f}").format(score=score), _colour(PATIENT), bold=True
        )
        self.words(
            at(threshold) + 4,
            2 * self.line,
            _("unusual above {threshold:.3f}").format(threshold=threshold),
            _colour(LIMIT, self.ink),
        )
        self.painter.setPen(qt.QPen(self.ink.lines))
        self.painter.drawLine(_MARGIN, ground, self.width - _MARGIN, ground)
        self.words(0, ground + self.line, f"{low:.2f}")
        self.words(self.width, ground + self.line, f"{high:.2f}")
        each = (
            ""
            if verdict.counted <= len(verdict.reference)
            else _(", a dot is {cases}").format(cases=verdict.counted // len(verdict.reference))
        )
        self.words(
            self.width / 2 - 78,
            ground + self.line,
            _("{counted} reference cases{each}").format(counted=verdict.counted, each=each),
        )
        return ground + self.line + 6

    def reason(self, reason: Reason, top: int) -> int:
        """Draw one region's share of this patient over the range that is usual; return the height where it ends."""
        value, low, high = float(reason.value or 0), float(reason.low or 0), float(reason.high or 0)
        longest = max(value, high) * 1.08 or 1.0

        def at(share: float) -> float:
            return _MARGIN + share / longest * (self.width - 2 * _MARGIN)

        name = structure(reason.region).name
        self.words(
            0,
            top + self.line,
            _("{name} {value}, usual {high}").format(name=name, value=percent(value), high=percent_range(low, high)),
        )
        middle = top + self.line + _BAR // 2
        self.painter.setPen(qt.QPen(self.ink.lines))
        self.painter.drawLine(_MARGIN, middle, self.width - _MARGIN, middle)
        first, last = round(at(low)), max(round(at(high)), round(at(low)) + 3)
        self.painter.fillRect(first, top + self.line, last - first, _BAR, _colour(REFERENCE))
        self._upright(at(value), top + self.line, top + self.line + _BAR + 2, _colour(PATIENT), dashed=False)
        return top + self.line + _BAR + 8

    def _dots(self, scores: Sequence[float], at: Any, ground: int) -> None:
        size = _MOST_DOT
        columns = max((self.width - 2 * _MARGIN) // (size + 1), 1)
        dots = stacked(scores, columns)
        step = min(size + 1.0, (_DOTS_HEIGHT - 4) / max(dot[1] for dot in dots))
        self.painter.setPen(qt.QPen(qt.Qt.NoPen))
        self.painter.setBrush(qt.QBrush(_colour(REFERENCE)))
        for score, height in dots:
            self.painter.drawEllipse(round(at(score) - size / 2), round(ground - height * step), size, size)
        self.painter.setBrush(qt.QBrush(qt.Qt.NoBrush))

    def _upright(self, x: float, top: int, bottom: int, colour: Any, *, dashed: bool) -> None:
        pen = qt.QPen(colour)
        pen.setWidth(1 if dashed else 3)
        if dashed:
            pen.setStyle(qt.Qt.DashLine)
        self.painter.setPen(pen)
        self.painter.drawLine(round(x), top, round(x), bottom)


def _colour(unit: tuple[float, float, float], ink: Ink | None = None) -> Any:
    """Return a colour of the plot; with ``ink`` a grey that is read on any theme takes the words' colour."""
    return ink.words if ink else qt.QColor(*(round(255 * part) for part in unit))
