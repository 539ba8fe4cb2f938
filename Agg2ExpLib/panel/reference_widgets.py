"""The widgets about the reference in the anomaly section, built and named; what they do is in reference_view.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import qt

from Agg2ExpLib.cohort.scoring import FALSE_ALARMS
from Agg2ExpLib.panel import forms


def build_false_alarms(inner: Any) -> Any:
    """Add the choice of the false-alarm rate to a layout; return its box, in percent."""
    box = qt.QDoubleSpinBox()
    box.setRange(0.1, 50.0)
    box.setDecimals(1)
    box.setSingleStep(1.0)
    box.setSuffix(" %")
    box.setValue(100 * FALSE_ALARMS)
    box.setObjectName("false alarms")
    box.setAccessibleName("false-alarm rate")
    box.setToolTip(
        "False-alarm rate: so many of the reference cases themselves would be called unusual. "
        "Less is stricter; it holds from the next comparison on."
    )
    forms.row(inner, qt.QLabel("False-alarm rate"), box, qt.QWidget(), stretch=2)
    return box


@dataclass(frozen=True)
class ReferenceWidgets:
    """Picture, its words, plot button, colour box, and what the colours mean."""

    picture: Any
    words: Any
    plot: Any
    coloured: Any
    key: Any


def build_reference(inner: Any) -> ReferenceWidgets:
    """Add picture, plot button and colour box to a layout."""
    picture = qt.QLabel()
    picture.setObjectName("reference picture")
    picture.setVisible(False)
    words = forms.note()
    words.setObjectName("reference words")
    words.setVisible(False)
    inner.addWidget(words)
    inner.addWidget(picture)
    plot = forms.button("", lambda: None, name="plot reference")
    inner.addWidget(plot)
    coloured = qt.QCheckBox("Colour the segments by it")
    coloured.setObjectName("colour by anomaly")
    inner.addWidget(coloured)
    key = forms.note("Blue is usual, white at the limit, orange to red unusual, grey not compared.")
    key.setObjectName("anomaly colours key")
    key.setVisible(False)
    inner.addWidget(key)
    return ReferenceWidgets(picture, words, plot, coloured, key)
