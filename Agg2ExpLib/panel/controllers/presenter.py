"""What is shown of an explanation: which one, which structure, its overlay, its table while somebody paints, its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.compute.packages import FOR_DICOM, FOR_FIGURES
from Agg2ExpLib.panel.controllers import export
from Agg2ExpLib.panel.current_explanation import CurrentExplanation, shown_in, title_of
from Agg2ExpLib.panel.desk import Desk
from Agg2ExpLib.panel.nodes import Watch
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.inputs import InputsSection
from Agg2ExpLib.panel.sections.results import ResultsSection
from Agg2ExpLib.panel.signals import Signal

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation

#: Milliseconds from an edit of a segment to the new numbers; edits within them are taken together.
LIVE_DELAY_MS = 80
#: Milliseconds that the crosshair must rest before what lies under it is chosen.
PICK_DELAY_MS = 150


@dataclass(frozen=True)
class _Drawn:
    """What was drawn last, so that only what changed is drawn again: a redraw of 3D takes a second."""

    overlay: tuple[object, ...]
    glow: tuple[object, ...]
    colours: tuple[object, ...]


class Presenter:
    """Stands between the results section and the scene.

    Parameters
    ----------
    results, inputs : ResultsSection, InputsSection
        What it fills, and where CT and segmentation are chosen.
    desk : Desk
        Runs figures, and keeps with the scene what is shown.

    Attributes
    ----------
    changed, overlaid : Signal
        Without values: another explanation is shown, or none; a structure or its overlay was shown anew.
    """

    def __init__(self, results: ResultsSection, inputs: InputsSection, desk: Desk) -> None:
        self.changed, self.overlaid = Signal(), Signal()
        self.shown: CurrentExplanation | None = None
        self.picture: Any = None
        self._results, self._inputs, self._desk = results, inputs, desk
        self._drawn: _Drawn | None = None
        self._outlined = ""
        self._segment_watch, self._crosshair_watch = Watch(), Watch()
        self._steps: Iterator[Any] = iter(())
        self._step_timer = qt.QTimer()
        self._step_timer.setInterval(0)
        self._step_timer.timeout.connect(lambda *_: self._on_step())
        self._pick_timer = qt.QTimer()
        self._pick_timer.setSingleShot(True)
        self._pick_timer.setInterval(PICK_DELAY_MS)
        self._pick_timer.timeout.connect(lambda *_: self._on_crosshair())
        self._live_timer = qt.QTimer()
        self._live_timer.setSingleShot(True)
        self._live_timer.setInterval(LIVE_DELAY_MS)
        self._live_timer.timeout.connect(lambda *_: self.refresh_live())
        results.structure_changed.connect(self.show_structure)
        results.explanation_changed.connect(self.show_key)
        results.pressed.connect(self._on_pressed)
        results.table.region_chosen.connect(self._on_region)

    def close(self) -> None:
        """Hear nothing more."""
        self._segment_watch.clear()
        self._crosshair_watch.clear()
        self._pick_timer.stop()
        self._step_timer.stop()
        self._live_timer.stop()

    def follow_crosshair(self) -> None:
        """Follow Slicer's crosshair, which Shift and the mouse move in slices and in 3D."""
        node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        self._crosshair_watch.clear()
        if node is not None:
            self._crosshair_watch.add(node, "ModifiedEvent", lambda *_: self._pick_timer.start())

    def _on_crosshair(self) -> None:
        node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if node is not None:
            self.pick(node.GetCrosshairRAS())

    def forget(self) -> None:
        """Let go of a scene that is being closed."""
        self._step_timer.stop()
        self._segment_watch.clear()
        self.shown = None
        self.refresh_live()

    def show_folder(self, folder: Path, ct_node: Any = None, structure: str = "") -> None:
        """Put an Explanation folder into the scene and show it, of a structure that was shown before that one.

        Raises
        ------
        InputError
            It is no complete Explanation folder.
        """
        from Agg2ExpLib.explanation import Explanation as Folder
        from Agg2ExpLib.scene import show_explanation

        title = _("Explanation of {scan}").format(scan=ct_node.GetName()) if ct_node is not None else None
        with widgets.busy():
            put = show_explanation(Folder.load(folder), slicer.mrmlScene, name=title, ct_node=ct_node)
        # The window draws itself between the halves of a large explanation.
        qt.QCoreApplication.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        self.show_key(put.key, structure, explanation=put.explanation)
        self._show_anatomy(opened=ct_node is None)
        self._results.frame.collapsed = False
        widgets.reveal(self._results.frame)

    def _show_anatomy(self, *, opened: bool) -> None:
        """Show the structures faintly in 3D, which is empty otherwise; their surfaces are made one by one meanwhile."""
        from Agg2ExpLib.scene import arrange, views

        shown = self.shown
        if shown is None or shown.in_scene is None or not shown.structure:
            return
        there, forward = shown.in_scene, arrange.involved(shown.in_scene, shown.structure)

        def finish() -> None:
            arrange.context_in_3d(there, forward)
            views.look_from_front(there.scene, arrange.bounds_of_structures(there))
            if there.ct_node is not None and opened:
                # The legends stand beside the anatomy, not on it.
                views.fit_slices(there.scene, arrange.bounds_of(there.ct_node), right=0.14)
                self._select()

        def steps() -> Iterator[Any]:
            yield from arrange.surfaces_in_steps(there, forward)
            finish()

        self._steps = steps()
        self._step_timer.start()

    def _on_step(self) -> None:
        """Make the next surface, while that is still what is shown."""
        if self.shown is None or next(self._steps, self) is self:
            self._step_timer.stop()

    def show_key(self, key: str, structure: str = "", explanation: Explanation | None = None) -> None:
        """Show an explanation of the scene, the first one when there is none of that key; its folder may be read already."""
        there = {one.key: one for one in shown_in(slicer.mrmlScene)}
        before, self.shown, self._drawn = self.shown, None, None
        chosen = there.get(key) or next(iter(there.values()), None)
        if chosen is not None:
            try:
                self.shown = CurrentExplanation(chosen, explanation if chosen.key == key else None)
            except Agg2ExpError as error:
                self._results.say(str(error))
        now = self.shown.key if self.shown else ""
        if before is not None and before.in_scene is not None and before.key in there and before.key != now:
            before.in_scene.hide()
        titles = [(one.key, title_of(one)) for one in there.values()]
        self._results.show_explanations(titles, self.shown.key if self.shown else "")
        explained = self.shown.explained if self.shown else []
        self._results.show_structures(
            explained, self.shown.absent if self.shown else [], structure if structure in explained else ""
        )
        self.watch_segments()
        self.show_structure(self._results.chosen_structure())
        self.changed.emit()

    def show_structure(self, name: str) -> None:
        """Show another structure of the explanation, in every view that showed the one before."""
        with widgets.busy():
            if self.shown is not None and name:
                self.shown.select(name)
                self._draw_overlay()
                self._follow_in_views(name)
            self.refresh_live()
            self._select(move=not self._desk.parameters.restoring)
        self.tell_about_shown()
        self._desk.parameters.remember(
            explanation=self.shown.key if self.shown else "", structure=self.shown.structure if self.shown else ""
        )
        self.overlaid.emit()

    def _follow_in_views(self, name: str) -> None:
        """Draw graph and bars anew, where they are shown: those of the structure before would be taken for this one's."""
        shown = self.shown
        if shown is None or shown.in_scene is None or name not in shown.in_scene.classes:
            return
        if shown.in_scene.graph_is_shown:
            from Agg2ExpLib.scene.arrange import graph_in_patient

            graph_in_patient(shown.in_scene, name, move=False)
        if shown.in_scene.owns_chart(views.active_chart()):
            views.choose_chart(shown.in_scene.show_chart(name), shown.in_scene.readable_table(name))

    def show_region(self, name: str, region: str) -> None:
        """Show a structure, and choose a region's line in its table."""
        if self.shown is None or name not in self.shown.explained:
            return
        widgets.choose(self._results.structure, name)
        if region:
            self._results.table.choose_region(region)

    def refresh_live(self) -> None:
        """Compute the painted regions' lines again and show the table."""
        node = self._inputs.regions.currentNode()
        if self.shown is None or not self.shown.structure:
            self._results.table.show_rows([], "")
            self._results.show_regions([])
        else:
            self._results.table.show_rows(self.shown.rows(node), structure(self.shown.structure).name)
            self._results.show_regions(self.shown.regions(node))
        self._tell_meaning()
        self._desk.changed.emit()

    def watch_segments(self) -> None:
        """Follow the segments of the chosen segmentation, and of no other."""
        self._segment_watch.clear()
        node = self._inputs.regions.currentNode()
        if node is not None:
            self._segment_watch.add_segmentation(node, lambda *_: self._on_segment_edited())
        self._outline_regions()

    def _on_segment_edited(self) -> None:
        # Not restarted while it runs: somebody who paints without a pause sees numbers all the time.
        if self.shown is not None and not self._live_timer.isActive():
            self._live_timer.start()

    def coloured_by_importance(self) -> bool:
        """Whether the segments have the colours of their importance."""
        return self._desk.overlay().coloured

    def colour_by_importance(self, on: bool) -> None:
        """Colour the segments by their importance, or no longer."""
        self._results.coloured.setChecked(on)

    def show_overlay(self) -> None:
        """Draw the shown structure's attribution as the panel says."""
        self._draw_overlay()
        self.overlaid.emit()

    def _draw_overlay(self) -> None:
        shown, overlay = self.shown, self._desk.overlay()
        if shown is None or not shown.structure or shown.in_scene is None:
            return
        name, there, drawn = shown.structure, shown.in_scene, self._drawn
        how = (overlay.mode, overlay.percentile, overlay.opacity, overlay.masked)
        wanted = _Drawn(
            (name, *how),
            (name, overlay.percentile) if overlay.volume_rendering else (),
            (name,) if overlay.coloured else (),
        )
        masked = list(there.explanation.labels[1:]) if overlay.masked else None
        try:
            if drawn is None or drawn.overlay != wanted.overlay:
                there.show_overlay(
                    name, overlay.mode, percentile=overlay.percentile, opacity=overlay.opacity, masked_segments=masked
                )
            if drawn is None or drawn.glow != wanted.glow:
                there.show_volume_rendering(name, percentile=overlay.percentile, visible=overlay.volume_rendering)
            if drawn is None or drawn.colours != wanted.colours:
                there.colour_segments(name if overlay.coloured else None)
        except Agg2ExpError as error:
            self._desk.say(str(error), self._results.line)
        self._drawn = wanted
        self._outline_regions()

    def _outline_regions(self) -> None:
        """Show the chosen extra regions by outlines when an overlay comes, under which it would not be seen; once."""
        from Agg2ExpLib.scene.segments import fill_in_slices

        node = self._inputs.regions.currentNode()
        wanted = (
            node.GetID() if node is not None and self.shown is not None and self._desk.overlay().mode != "off" else ""
        )
        if wanted and wanted != self._outlined:
            # Whoever fills them afterwards wants them so.
            fill_in_slices(node, False)
        self._outlined = wanted

    def tell_about_shown(self) -> None:
        """Say what a reader must know of the explanation before believing it."""
        shown = self.shown
        if shown is None:
            self._results.say("")
            return
        parts = []
        volume, card = self._inputs.ct_node(), self._inputs.card()
        if shown.problem:
            parts.append(_("Shown from the scene alone: {problem}.").format(problem=shown.problem))
        if shown.ct_node is None:
            parts.append(
                _("The scan that was explained is no longer in the scene: open the explanation again to see it.")
            )
        if volume is not None and shown.ct_node is not None and volume.GetID() != shown.ct_node.GetID():
            parts.append(
                _("Made with another scan: {one}, not {other}.").format(
                    one=shown.ct_node.GetName(), other=volume.GetName()
                )
            )
        if card is not None and shown.model_name and card.name != shown.model_name:
            parts.append(
                _("Made with another model: {one}, not {other}.").format(one=shown.model_name, other=card.name)
            )
        if not shown.explained:
            parts.append(_("None of the structures asked for is in the segmentation."))
        self._results.say(" ".join(parts))

    def _on_region(self, region: str) -> None:
        """Say what the chosen line means, go there, and offer its region to the what-if."""
        self._tell_meaning()
        if self.shown is not None:
            self._select()
            widgets.choose(self._results.region, region)
            self._desk.changed.emit()

    def _select(self, *, move: bool = True) -> None:
        """Show in every view what is selected: the chosen line's region, else the structure itself."""
        if self.shown is not None:
            segmentation = self._inputs.regions.currentNode()
            self.shown.choose_region(self._results.table.chosen_region(), segmentation, move=move)

    def pick(self, position: Sequence[float]) -> None:
        """Choose the line of what lies at a RAS position, where somebody has pointed in a view; the slices stay there."""
        if self.shown is None or not self.shown.structure:
            return
        region = self.shown.region_at(position, self._inputs.regions.currentNode())
        if region and region != self._results.table.chosen_region():
            self._results.table.choose_region(region, quietly=True)
            self._tell_meaning()
            widgets.choose(self._results.region, region)
            self._select(move=False)
            self._desk.changed.emit()

    def _tell_meaning(self) -> None:
        """Say what the chosen line means now, of the structure that is shown now; nothing without a chosen line."""
        shown, chosen = self.shown, self._results.table.chosen_region()
        row = next((one for one in self._results.table.rows if one.region == chosen), None)
        self._results.say_meaning(row.sentence(structure(shown.structure).name) if row and shown else "")

    def _on_pressed(self, name: str) -> None:
        try:
            self._press(name)
        except Agg2ExpError as error:
            self._desk.say(str(error), self._results.line)

    def _press(self, name: str) -> None:
        shown = self.shown
        if name == "open":
            folder = qt.QFileDialog.getExistingDirectory(self._results.frame, _("Open an Explanation folder"))
            if folder:
                self.show_folder(Path(folder))
        elif shown is None or shown.in_scene is None:
            return
        elif name == "strongest":
            shown.in_scene.go_to_strongest(shown.structure)
        elif name == "graph3d":
            from Agg2ExpLib.scene.arrange import graph_in_patient

            views.show_3d()
            with widgets.busy():
                graph_in_patient(shown.in_scene, shown.structure)
        elif name == "bars":
            if not (shown.in_scene.owns_chart(views.active_chart()) and views.leave_plots()):
                chart = shown.in_scene.show_chart(shown.structure)
                views.show_plot_and_table(chart, shown.in_scene.readable_table(shown.structure))
        elif name in ("heat map", "graph"):
            self._draw(name, shown)
        elif name == "export":
            export.ask_and_export(self, self._results, shown, busy=self._desk.runner.current is not None)

    def draw_figures(
        self, shown: CurrentExplanation, out: Path, then: Callable[[], None] | None = None, classes: str = ""
    ) -> None:
        """Have the child process draw the figures of an explanation into a folder; of all structures, or of some alone."""
        options = {"background": "dark" if views.is_dark(self._results.frame) else "light", "classes": classes}
        self._desk.run(
            lambda: self._desk.tasks.figures(shown.folder, out, options),
            lambda *ignored: (
                then() if then else self._results.line.say(_("The figures are in {folder}.").format(folder=out))
            ),
            self._results.line,
            needs=(FOR_FIGURES,),
        )

    def export(self, shown: CurrentExplanation, kind: str, out: Path) -> None:
        """Have the child process write an explanation as ``dicom`` (a folder) or ``html`` (a file)."""
        self._desk.run(
            lambda: self._desk.tasks.export(shown.folder, kind, out),
            lambda *ignored: self._results.line.say(_("Exported to {place}.").format(place=out)),
            self._results.line,
            needs=(FOR_DICOM if kind == "dicom" else FOR_FIGURES,),
        )

    def _draw(self, name: str, shown: CurrentExplanation) -> None:
        out = export.figures_folder(shown)
        prefix, title = ("heat_map", _("Heat map")) if name == "heat map" else ("graph", _("Graph"))
        title = _("{picture}: {structure}").format(picture=title, structure=structure(shown.structure).name)

        def show() -> None:
            pictures = sorted(out.glob(f"{prefix}_mass.png")) or sorted(out.glob(f"{prefix}_*.png"))
            if pictures:
                self.picture = views.show_picture(self._results.frame, pictures[0], title)

        # Somebody waits for one picture.
        self.draw_figures(shown, out, show, shown.structure)
