"""Compares the shown explanation with a reference profile, and shows the patient among the reference cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.cohort.judge.scoring import FALSE_ALARMS
from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.compute.packages import FOR_SCORES
from Agg2ExpLib.panel.compute.task import Outcome
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.current_explanation import CurrentExplanation, shown_in
from Agg2ExpLib.panel.desk import Desk
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.anomaly import NEEDS, SHIPPED, AnomalySection
from Agg2ExpLib.panel.sections.reference_figure import Ink, in_words, paint
from Agg2ExpLib.panel.words.buttons import Look
from Agg2ExpLib.panel.words.verdicts import Verdict, Verdicts, verdicts_of

#: Attribute of the explanation's node in the scene: the verdicts, as JSON.
ATTRIBUTE = "Agg2Exp.Verdicts"
_PLOT_TIP = _("Shows the reference cases' scores, and this patient's, as a plot beside the views.")
_COLOUR_TIP = _(
    "Colours each segment by how far its explanation is from usual; off gives the structures' own colours back."
)


class ReferenceController:
    """Stands between the anomaly section and the work.

    Parameters
    ----------
    section : AnomalySection
        What it fills.
    presenter : Presenter
        Knows what is shown.
    desk : Desk
        Runs the comparison; remembers the profile.
    """

    def __init__(self, section: AnomalySection, presenter: Presenter, desk: Desk) -> None:
        self._chosen = self._shipped = ""
        self._scores: Mapping[str, Any] | None = None
        self.plots = ReferencePlots(section, presenter)
        self._section, self._presenter, self._desk = section, presenter, desk
        section.pressed.connect(self._on_pressed)
        section.reason_chosen.connect(presenter.show_region)

    @property
    def profile(self) -> str:
        """Path of the reference: the chosen one, else the one of the bundled model, while that model's work is shown."""
        shown = self._presenter.shown
        fits = shown is None or self._scores is None or shown.model_name == self._scores["identity"]["model"]["name"]
        return self._chosen or (self._shipped if fits else "")

    def offer(self, profile: Path | None, scores: Mapping[str, Any] | None) -> None:
        """Take the reference that comes with the sample, and the sample's scores; ``None`` where none is installed."""
        self._shipped, self._scores = str(profile or ""), scores

    def restore(self, profile: str) -> None:
        """Take the profile that a scene names, else the last one; nothing of it is read before the comparison."""
        self._chosen = profile or self._desk.settings.profile()
        self.show()

    def show_sample(self) -> None:
        """Show the scores that come with the sample, which is shown: nothing is computed, and no package needed."""
        shown, usual = self._presenter.shown, round(self.plots.false_alarms - FALSE_ALARMS, 6) == 0
        if shown is not None and self._scores is not None and self.profile == self._shipped and usual:
            keep_verdicts(shown.saved.anchor, verdicts_of(self._scores, self._shipped))
        self.show()

    def show(self) -> None:
        """Show what is known of the shown explanation."""
        shown = self._presenter.shown
        found = verdicts_in(shown.saved.anchor) if shown else None
        self._section.show_profile(self.profile)
        self._section.show_verdicts(found)
        self.plots.show()
        if found is None:
            self._section.say(NEEDS if not self.profile else SHIPPED if self.profile == self._shipped else "")
            return
        other = _("Compared with {profile}.").format(profile=Path(found.profile).name)
        self._section.say(" ".join([*([other] if found.profile != self.profile else []), found.summary()]))

    def open(self, profile: str) -> None:
        """Choose a profile, remember it, and compare what is shown."""
        self._chosen = profile
        self._desk.settings.set_profile(profile)
        self._desk.parameters.remember(profile=profile)
        self.compare()

    def compare(self) -> None:
        """Compare the shown explanation, in the child process."""
        shown = self._presenter.shown
        if shown is None or not shown.computed_here or not self.profile:
            self.show()
            return
        if not self._desk.packages(FOR_SCORES, self._section.line):
            return
        profile, false_alarms = self.profile, self.plots.false_alarms
        self._section.show_verdicts(None)
        self._section.say("")
        self._desk.run(
            lambda: self._desk.tasks.score(shown.folder, profile, false_alarms),
            lambda outcome, task: self._on_scored(outcome, shown, profile, false_alarms),
            self._section.line,
        )

    def _on_scored(self, outcome: Outcome, shown: CurrentExplanation, profile: str, false_alarms: float) -> None:
        keep_verdicts(shown.saved.anchor, verdicts_of(outcome.answer, profile, false_alarms))
        self.show()

    def _on_pressed(self, name: str) -> None:
        if name == "compare":
            self.compare()
            return
        kinds = _("Reference profiles ({patterns})").format(patterns="*.npz")
        found = qt.QFileDialog.getOpenFileName(self._section.frame, _("Open a reference profile"), self.profile, kinds)
        path = found[0] if isinstance(found, tuple) else found
        if path:
            self.open(str(path))


class ReferencePlots:
    """Shows the reference distribution with this patient in it, and colours the segments by how unusual they are.

    Parameters
    ----------
    section : AnomalySection
        What it fills.
    presenter : Presenter
        Knows what is shown.
    """

    def __init__(self, section: AnomalySection, presenter: Presenter) -> None:
        self.section, self._presenter = section, presenter
        self._coloured_key = ""
        section.plot.clicked.connect(lambda *_: self.plot())
        presenter.overlaid.connect(self.show)

    @property
    def false_alarms(self) -> float:
        """The chosen false-alarm rate, 0 to 1."""
        return round(float(widgets.read(self.section.false_alarms, "value")) / 100, 6)

    def found(self) -> tuple[Verdicts | None, Verdict | None]:
        """Return the verdicts on the shown explanation and that on the shown structure."""
        shown = self._presenter.shown
        everything = verdicts_in(shown.saved.anchor) if shown else None
        return everything, everything.of(shown.structure) if everything and shown else None

    def show(self) -> None:
        """Draw what is known of the shown structure, and colour the segments when that is chosen."""
        everything, one = self.found()
        plotted = everything is not None and one is not None and one.plotted
        self.section.picture.setVisible(plotted)
        self.section.words.setVisible(plotted)
        if plotted and everything is not None and one is not None:
            palette = widgets.read(self.section.picture, "palette")
            ink = Ink(palette.color(qt.QPalette.WindowText), palette.color(qt.QPalette.Mid))
            words = in_words(one, everything.false_alarms)
            self.section.picture.setPixmap(paint(one, ink))
            self.section.picture.setAccessibleName(words)
            self.section.picture.setToolTip(words)
            self.section.words.setText(words)
        reason = "" if everything else _("Compare with a reference first.")
        no_plot = reason or ("" if plotted else _("This structure has no score to plot; choose another one."))
        widgets.apply_look(self.section.plot, Look(_("Plot beside the views"), _PLOT_TIP, no_plot))
        widgets.apply_look(self.section.coloured, Look(_("Colour the segments by it"), _COLOUR_TIP, reason))
        self._colour(everything)
        self._follow_in_views(one)

    def _follow_in_views(self, one: Verdict | None) -> None:
        """Plot the shown structure, when the plot beside the views is that of another one."""
        from Agg2ExpLib.scene.nodes import CLASS, ROLE

        shown, active = self._presenter.shown, views.active_chart()
        if shown is None or active is None or active.GetAttribute(ROLE) != "reference-chart":
            return
        if active.GetAttribute(CLASS) != shown.structure or not shown.saved.owns(active):
            views.choose_chart(chart_of(shown.saved, one) if one is not None else None)

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
        return bool(widgets.read(self.section.coloured, "checked"))

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
            self.section.coloured.setChecked(False)
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
        self.section.colours_key.setVisible(bool(key))


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


def keep_verdicts(anchor: Any, found: Verdicts) -> None:
    """Keep verdicts with the scene, on the explanation's node."""
    anchor.SetAttribute(ATTRIBUTE, found.to_text())


def verdicts_in(anchor: Any) -> Verdicts | None:
    """Return the verdicts that an explanation's node holds; ``None`` when it was not compared."""
    return Verdicts.from_text(anchor.GetAttribute(ATTRIBUTE) or "")
