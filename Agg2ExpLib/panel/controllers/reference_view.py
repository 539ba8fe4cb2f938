"""Shows the reference distribution with this patient in it, and colours the segments by how unusual they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.sections import forms
from Agg2ExpLib.panel.sections.reference_figure import Ink, in_words, paint
from Agg2ExpLib.panel.sections.reference_widgets import ReferenceWidgets
from Agg2ExpLib.panel.shown import shown_in
from Agg2ExpLib.panel.words.buttons import Look
from Agg2ExpLib.panel.words.verdicts import Verdict, Verdicts

_PLOT_TIP = _("Shows the reference cases' scores, and this patient's, as a plot beside the views.")
_COLOUR_TIP = _(
    "Colours each segment by how far its explanation is from usual; off gives the structures' own colours back."
)


class ReferenceView:
    """Wires the widgets about the reference.

    Parameters
    ----------
    widgets : ReferenceWidgets
        What it fills.
    false_alarms : QDoubleSpinBox
        The rate in percent.
    presenter : Presenter
        Knows what is shown.
    verdicts_in : callable
        Returns the verdicts that an explanation's node holds, or ``None``.
    """

    def __init__(
        self,
        widgets: ReferenceWidgets,
        false_alarms: Any,
        presenter: Presenter,
        verdicts_in: Callable[[Any], Verdicts | None],
    ) -> None:
        self.widgets, self._false_alarms, self._presenter = widgets, false_alarms, presenter
        self._verdicts_in = verdicts_in
        self._coloured_key = ""
        widgets.plot.clicked.connect(lambda *_: self.plot())
        presenter.overlaid.connect(self.show)

    @property
    def false_alarms(self) -> float:
        """The chosen false-alarm rate, 0 to 1."""
        return round(float(forms.read(self._false_alarms, "value")) / 100, 6)

    def found(self) -> tuple[Verdicts | None, Verdict | None]:
        """Return the verdicts on the shown explanation and that on the shown structure."""
        shown = self._presenter.shown
        everything = self._verdicts_in(shown.saved.anchor) if shown else None
        return everything, everything.of(shown.structure) if everything and shown else None

    def show(self) -> None:
        """Draw what is known of the shown structure, and colour the segments when that is chosen."""
        everything, one = self.found()
        plotted = everything is not None and one is not None and one.plotted
        self.widgets.picture.setVisible(plotted)
        self.widgets.words.setVisible(plotted)
        if plotted and everything is not None and one is not None:
            palette = forms.read(self.widgets.picture, "palette")
            ink = Ink(palette.color(qt.QPalette.WindowText), palette.color(qt.QPalette.Mid))
            words = in_words(one, everything.false_alarms)
            self.widgets.picture.setPixmap(paint(one, ink))
            self.widgets.picture.setAccessibleName(words)
            self.widgets.picture.setToolTip(words)
            self.widgets.words.setText(words)
        reason = "" if everything else _("Compare with a reference first.")
        no_plot = reason or ("" if plotted else _("This structure has no score to plot; choose another one."))
        forms.apply_look(self.widgets.plot, Look(_("Plot beside the views"), _PLOT_TIP, no_plot))
        forms.apply_look(self.widgets.coloured, Look(_("Colour the segments by it"), _COLOUR_TIP, reason))
        self._colour(everything)

    def plot(self) -> Any:
        """Show the plot of the shown structure beside the views; return its chart node, ``None`` without a score."""
        shown, (everything, one) = self._presenter.shown, self.found()
        if shown is None or everything is None or one is None:
            return None
        chart = chart_of(shown.saved, one)
        if chart is not None:
            views.show_plot_and_table(chart, shown.saved.table_node)
        return chart

    def _coloured(self) -> bool:
        return bool(forms.read(self.widgets.coloured, "checked"))

    def on_coloured(self) -> None:
        """Follow the colour box, which a press or a script has changed."""
        if self._coloured():
            # Segments have one colour: that of the importance gives way.
            self._presenter.colour_by_importance(False)
        self.show()

    def _colour(self, everything: Verdicts | None) -> None:
        from Agg2ExpLib.scene import anomaly_colours

        shown = self._presenter.shown
        if self._coloured() and self._presenter.coloured_by_importance():
            self.widgets.coloured.setChecked(False)
        wanted = self._coloured() and everything is not None and shown is not None
        key = shown.key if wanted and shown is not None else ""
        for saved in shown_in(slicer.mrmlScene):
            if saved.key == self._coloured_key != key and not self._presenter.coloured_by_importance():
                anomaly_colours.colour_by_structure(saved)
            elif saved.key == self._coloured_key != key:
                anomaly_colours.hide_anomaly_legend(saved)
        if wanted and everything is not None and shown is not None:
            anomaly_colours.colour_by_anomaly(shown.saved, everything.distances())
        self._coloured_key = key
        self.widgets.key.setVisible(bool(key))


def chart_of(saved: Any, one: Verdict) -> Any:
    """Make or update the plot of one verdict in the scene; return the chart node, ``None`` without a score."""
    from Agg2ExpLib.scene.anomaly_colours import keeper_of
    from Agg2ExpLib.scene.folders import file_away
    from Agg2ExpLib.scene.reference_chart import reference_chart

    if not one.plotted or one.score is None or one.threshold is None:
        return None
    keeper = keeper_of(saved)
    chart = reference_chart(keeper, one.structure, one.reference, one.score, one.threshold, one.counted, one.percentile)
    file_away(keeper, saved.anchor.GetName(), saved.ct_node or saved.anchor)
    return chart
