"""The panel: its sections put together, and what happens when something in one of them is chosen or pressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel import export, forms, views
from Agg2ExpLib.panel.anomaly_section import NEEDS, AnomalySection
from Agg2ExpLib.panel.explain_section import ExplainSection, describe_cost
from Agg2ExpLib.panel.inputs_section import InputsSection
from Agg2ExpLib.panel.job import Outcome
from Agg2ExpLib.panel.log_section import LogSection
from Agg2ExpLib.panel.memory import Memory
from Agg2ExpLib.panel.nodes import Watch, segment_volume, visible_names
from Agg2ExpLib.panel.packages import ensure_packages, version_problem
from Agg2ExpLib.panel.results_section import Overlay, ResultsSection
from Agg2ExpLib.panel.shown import Shown, shown_in, title_of
from Agg2ExpLib.panel.state import Facts, panel_state
from Agg2ExpLib.panel.store import Store
from Agg2ExpLib.panel.task import Task
from Agg2ExpLib.panel.workbench import AtExit, Workbench

#: Milliseconds from an edit of a segment to the new numbers; edits within them are taken together.
LIVE_DELAY_MS = 80


class Panel:
    """The whole panel.

    Parameters
    ----------
    layout : QLayout
        Where the sections go.
    workbench : Workbench
        Makes the tasks.
    store : Store
        What is remembered between sessions.
    parameters : callable
        Returns the parameter node of the scene as it is now.
    """

    def __init__(self, layout: Any, workbench: Workbench, store: Store, parameters: Callable[[], Any]) -> None:
        self.workbench, self.store = workbench, store
        self.memory = Memory(parameters)
        self.task: Task | None = None
        self.shown: Shown | None = None
        self.inputs = InputsSection(layout, store)
        self.explain = ExplainSection(layout, self._visible_names)
        self.results = ResultsSection(layout)
        self.anomaly = AnomalySection(layout)
        self.log = LogSection(layout)
        layout.addStretch(1)
        self._model = ""
        self._restoring = False
        self._packages_ready = False
        self._scene_watch, self._segment_watch = Watch(), Watch()
        self._live_timer = qt.QTimer()
        self._live_timer.setSingleShot(True)
        self._live_timer.setInterval(LIVE_DELAY_MS)
        self._live_timer.timeout.connect(lambda *_: self.refresh_live())
        self._connect()
        self._watch_scene()
        self.restore()

    def _connect(self) -> None:
        self.inputs.changed.connect(self._on_inputs)
        self.explain.changed.connect(self._on_choices)
        self.explain.apply_pressed.connect(self.on_apply)
        self.explain.estimate_pressed.connect(self.on_estimate)
        self.explain.environment_pressed.connect(self.on_environment)
        self.explain.results_pressed.connect(self._on_results_folder)
        self.results.structure_changed.connect(self.show_structure)
        self.results.overlay_changed.connect(self._on_overlay)
        self.results.explanation_changed.connect(self.show_key)
        self.results.pressed.connect(self._on_pressed)
        self.results.table.region_chosen.connect(self._on_region)
        self.anomaly.open.setEnabled(False)
        self.anomaly.open.setToolTip("This version cannot score against a reference yet.")
        self._at_exit = AtExit(self.workbench.stop_all)

    def _watch_scene(self) -> None:
        scene, kinds = slicer.mrmlScene, slicer.vtkMRMLScene
        self._scene_watch.add(scene, kinds.StartCloseEvent, lambda *_: self._on_scene_closing())
        self._scene_watch.add(scene, kinds.StartImportEvent, lambda *_: self._on_scene_importing())
        self._scene_watch.add(scene, kinds.EndCloseEvent, lambda *_: self.restore())
        self._scene_watch.add(scene, kinds.EndImportEvent, lambda *_: self.restore())
        self._scene_watch.add(scene, kinds.NodeAddedEvent, lambda *_: self._on_node_added())
        self._scene_watch.add(scene, kinds.NodeRemovedEvent, lambda *_: self._on_node_removed())

    def close(self) -> None:
        """Stop everything and hear nothing more: for reload and exit."""
        self.workbench.stop_all()
        self._at_exit.cancel()
        self._scene_watch.clear()
        self._segment_watch.clear()
        self._live_timer.stop()
        self.log.stop()

    # What is chosen

    def facts(self) -> Facts:
        """Return what is so now."""
        volume = self.inputs.ct_node()
        shown = self.shown
        running = self.task if self.task and self.task.running else None
        choices = self.explain.choices(self.inputs.model_source)
        job = (
            "" if running is None else "preparing" if running.preparing and running.kind == "explain" else running.kind
        )
        return Facts(
            volume=volume.GetName() if volume else "",
            problem=version_problem(slicer.app) or self.inputs.model_problem() or choices.problem(),
            job=job,
            cancelling=bool(running and running.cancelling),
            shown=shown is not None,
            structure=shown.structure if shown else "",
            structures=len(shown.explained) if shown else 0,
            region=str(forms.read(self.results.region, "currentText")) if shown else "",
            computed_here=shown.computed_here if shown else True,
            figures=export.figures_available(),
        )

    def refresh(self) -> None:
        """Give every button its look."""
        state = panel_state(self.facts())
        self.explain.show_state(state)
        self.results.show_state(state)

    def _on_inputs(self) -> None:
        source = self.inputs.model_source
        if source != self._model:
            self._model = source
            self.explain.show_model(self.inputs.card())
        self._watch_segments()
        self._remember()
        self._tell_about_shown()
        self.refresh_live()

    def _on_choices(self) -> None:
        self.explain.say_cost("")
        self._remember()
        self.refresh()

    def _remember(self) -> None:
        if self._restoring:
            return
        self.memory.keep(
            self.inputs.ct_node(),
            self.inputs.regions.currentNode(),
            self.explain.choices(self.inputs.model_source),
            self.results.overlay(),
            self.shown.key if self.shown else "",
            self.shown.structure if self.shown else "",
        )

    def _visible_names(self) -> set[str]:
        nodes = [self.inputs.regions.currentNode(), self.shown.saved.segmentation_node if self.shown else None]
        return set().union(*(visible_names(node) for node in nodes))

    def _on_results_folder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.explain.frame, "Keep explanations in")
        if folder:
            self.store.set_results_folder(folder)
        self._show_results_folder()

    def _show_results_folder(self) -> None:
        folder = self.store.results_folder()
        self.explain.results_folder.setText(folder.name or str(folder))
        self.explain.results_folder.setToolTip(str(folder))

    # Tasks

    def on_apply(self) -> None:
        """Start an explanation, or cancel what runs."""
        if self.task and self.task.running:
            self.task.cancel()
            self.refresh()
            return
        if not self._packages():
            return
        card = self.inputs.card()
        self._run(
            lambda: self.workbench.explain(
                self.inputs.ct_node(),
                self.explain.choices(self.inputs.model_source),
                self.inputs.regions.currentNode(),
                labels=card.labels if card else (),
            ),
            self._on_explained,
        )

    def on_estimate(self) -> None:
        """Start an estimate."""
        if self._packages():
            choices = self.explain.choices(self.inputs.model_source)
            self._run(lambda: self.workbench.estimate(self.inputs.ct_node(), choices), self._on_estimated)

    def on_environment(self) -> None:
        """Start the check of packages and devices."""
        self._run(self.workbench.environment, self._on_environment)

    def on_whatif(self) -> None:
        """Replace the chosen region and predict again."""
        shown, key = self.shown, str(forms.chosen(self.results.region) or "")
        if shown is None or not key:
            return
        name, mask = self._region(key)
        fill, device = str(forms.chosen(self.results.fill)), str(forms.chosen(self.explain.device))
        self.results.say_whatif("")
        self._run(
            lambda: self.workbench.whatif(shown.folder, name, fill, mask=mask, device=device),
            lambda outcome, task: self._on_whatif(outcome, task, shown, name, fill),
        )

    def _region(self, key: str) -> tuple[str, Any]:
        """Return name and mask of a region: the mask of a painted segment, None for one that the explanation knows."""
        if not key.startswith("segment:"):
            return key, None
        node_id, _, identifier = key.removeprefix("segment:").partition("/")
        node = slicer.mrmlScene.GetNodeByID(node_id)
        segment = node.GetSegmentation().GetSegment(identifier)
        return segment.GetName(), segment_volume(node, identifier)

    def _packages(self) -> bool:
        """Check the packages of Slicer's own Python once; another Python is its owner's business."""
        if self._packages_ready or self.store.interpreter():
            return True
        report = ensure_packages()
        self._packages_ready = report.ready
        if not report.ready:
            self._complain(report.sentence)
        return report.ready

    def _run(self, make: Callable[[], Task], done: Callable[[Outcome, Task], None]) -> None:
        try:
            task = make()
        except Agg2ExpError as error:
            self._complain(str(error))
            return
        self.task = task
        task.progressed.connect(self.explain.show_event)
        task.said.connect(self.log.add)
        task.finished.connect(lambda outcome: self._on_finished(outcome, task, done))
        self.explain.say("")
        task.start()
        self.refresh()

    def _on_finished(self, outcome: Outcome, task: Task, done: Callable[[Outcome, Task], None]) -> None:
        self.explain.end_progress()
        if outcome.status == "done":
            self.explain.say("")
            try:
                done(outcome, task)
            except Agg2ExpError as error:
                self._complain(str(error))
        else:
            words = "" if outcome.status in ("cancelled", "refused") else "\n".join(("", *outcome.last_lines[-4:]))
            self._complain(outcome.sentence, words)
        self.refresh()

    def _complain(self, sentence: str, words: str = "") -> None:
        text = f"{sentence[:1].upper()}{sentence[1:]}"
        self.explain.say(f"{text}{'' if text.endswith('.') else '.'}{words}")
        self.log.add([text])

    def _on_estimated(self, outcome: Outcome, _: Task) -> None:
        if outcome.answer:
            self.explain.say_cost(describe_cost(outcome.answer))

    def _on_environment(self, outcome: Outcome, _: Task) -> None:
        if outcome.answer:
            self.explain.show_devices(list(outcome.answer.get("devices", [])))
            lines = export.environment_lines(outcome.answer)
            self.log.add(lines)
            self.log.frame.collapsed = False
            self.explain.say(export.environment_summary(outcome.answer))

    def _on_explained(self, _: Outcome, task: Task) -> None:
        if task.out is not None:
            self.show_folder(task.out, self.inputs.ct_node())

    def _on_whatif(self, _: Outcome, task: Task, shown: Shown, name: str, fill: str) -> None:
        if task.out is not None:
            answer = export.read_whatif(task.out)
            export.show_whatif_segmentation(task.out, shown, name)
            self.results.say_whatif(export.describe_whatif(answer, name, fill))

    # Results

    def show_folder(self, folder: Path, ct_node: Any = None) -> None:
        """Put an Explanation folder into the scene and show it.

        Raises
        ------
        InputError
            It is no complete Explanation folder.
        """
        from Agg2ExpLib.explanation import Explanation
        from Agg2ExpLib.scene import show_explanation

        title = f"Explanation of {ct_node.GetName()}" if ct_node is not None else None
        with forms.busy():
            put = show_explanation(Explanation.load(folder), slicer.mrmlScene, name=title, ct_node=ct_node)
        self.show_key(put.key)

    def show_key(self, key: str, structure: str = "") -> None:
        """Show an explanation of the scene, the first one when there is none of that key."""
        there = {one.key: one for one in shown_in(slicer.mrmlScene)}
        self.shown = None
        chosen = there.get(key) or next(iter(there.values()), None)
        if chosen is not None:
            try:
                self.shown = Shown(chosen)
            except Agg2ExpError as error:
                self.results.say(str(error))
        titles = [(one.key, title_of(one)) for one in there.values()]
        self.results.show_explanations(titles, self.shown.key if self.shown else "")
        explained = self.shown.explained if self.shown else []
        self.results.show_structures(
            explained, self.shown.absent if self.shown else [], structure if structure in explained else ""
        )
        self.results.say_whatif("")
        self._watch_segments()
        self.show_structure(self.results.chosen_structure())

    def show_structure(self, name: str) -> None:
        """Show another structure of the explanation."""
        with forms.busy():
            if self.shown is not None and name:
                self.shown.select(name)
                self._show_overlay(self.results.overlay())
            self.refresh_live()
        self._tell_about_shown()
        self._remember()

    def refresh_live(self) -> None:
        """Compute the painted regions' lines again and show the table."""
        node = self.inputs.regions.currentNode()
        if self.shown is None or not self.shown.structure:
            self.results.table.show_rows([], "")
            self.results.show_regions([])
        else:
            from Agg2ExpLib.anatomy import structure

            self.results.table.show_rows(self.shown.rows(node), structure(self.shown.structure).name)
            self.results.show_regions(self.shown.regions(node))
        self.refresh()

    def _watch_segments(self) -> None:
        self._segment_watch.clear()
        node = self.inputs.regions.currentNode()
        if node is not None:
            self._segment_watch.add_segmentation(node, lambda *_: self._on_segment_edited())

    def _on_segment_edited(self) -> None:
        # Not restarted while it runs: somebody who paints without a pause sees numbers all the time.
        if self.shown is not None and not self._live_timer.isActive():
            self._live_timer.start()

    def _on_overlay(self, overlay: Overlay) -> None:
        self._show_overlay(overlay)
        self._remember()

    def _show_overlay(self, overlay: Overlay) -> None:
        shown = self.shown
        if shown is None or not shown.structure or shown.in_scene is None:
            return
        name = shown.structure
        masked = list(shown.in_scene.explanation.labels[1:]) if overlay.masked else None
        try:
            shown.in_scene.show_overlay(
                name, overlay.mode, percentile=overlay.percentile, opacity=overlay.opacity, masked_segments=masked
            )
            shown.in_scene.show_volume_rendering(name, percentile=overlay.percentile, visible=overlay.volume_rendering)
            shown.in_scene.colour_segments(name if overlay.coloured else None)
        except Agg2ExpError as error:
            self.results.say(str(error))

    def _tell_about_shown(self) -> None:
        """Say what a reader must know of the explanation before believing it."""
        shown = self.shown
        if shown is None:
            self.results.say("")
            return
        parts = []
        volume, card = self.inputs.ct_node(), self.inputs.card()
        if shown.problem:
            parts.append(f"Shown from the scene alone: {shown.problem}.")
        if volume is not None and shown.ct_node is not None and volume.GetID() != shown.ct_node.GetID():
            parts.append(f"Made with another scan: {shown.ct_node.GetName()}, not {volume.GetName()}.")
        if card is not None and shown.model_name and card.name != shown.model_name:
            parts.append(f"Made with another model: {shown.model_name}, not {card.name}.")
        if not shown.explained:
            parts.append("None of the structures asked for is in the segmentation.")
        self.results.say(" ".join(parts))

    def _on_region(self, region: str) -> None:
        """Say what the chosen line means, and offer its region to the what-if."""
        row = next((one for one in self.results.table.rows if one.region == region), None)
        if row is not None and self.shown is not None:
            from Agg2ExpLib.anatomy import structure

            self.results.say_meaning(row.sentence(structure(self.shown.structure).name))
            forms.choose(self.results.region, region)
            self.refresh()

    def _on_pressed(self, name: str) -> None:
        try:
            self._press(name)
        except Agg2ExpError as error:
            self.results.say(str(error))

    def _press(self, name: str) -> None:
        shown = self.shown
        if name == "open":
            folder = qt.QFileDialog.getExistingDirectory(self.results.frame, "Open an Explanation folder")
            if folder:
                self.show_folder(Path(folder))
        elif name == "whatif":
            self.on_whatif()
        elif shown is None or shown.in_scene is None:
            return
        elif name == "strongest":
            shown.in_scene.go_to_strongest(shown.structure)
        elif name == "graph3d":
            shown.in_scene.show_graph(shown.structure)
        elif name == "bars":
            views.show_plot_and_table(shown.in_scene.show_chart(shown.structure), shown.saved.table_node)
        elif name in ("heat map", "graph"):
            self._draw(name, shown)
        elif name == "export":
            export.ask_and_export(self, shown)

    def draw_figures(self, shown: Shown, out: Path, then: Callable[[], None] | None = None) -> None:
        """Have the child process draw the figures of an explanation into a folder."""
        options = {"background": "dark" if views.is_dark(self.results.frame) else "light"}
        self._run(
            lambda: self.workbench.figures(shown.folder, out, options),
            lambda *_: then() if then else self.explain.say(f"The figures are in {out}."),
        )

    def _draw(self, name: str, shown: Shown) -> None:
        out = export.figures_folder(shown)
        prefix = "heat_map" if name == "heat map" else "graph"

        def show() -> None:
            pictures = sorted(out.glob(f"{prefix}_mass.png")) or sorted(out.glob(f"{prefix}_*.png"))
            if pictures:
                self.picture = views.show_picture(self.results.frame, pictures[0], name.capitalize())

        self.draw_figures(shown, out, show)

    # The scene

    def restore(self) -> None:
        """Show what the scene's parameter node says: after the start, a loaded scene or a closed one."""
        self._restoring = True
        try:
            self.inputs.hide_overlays()
            kept = self.memory.recall()
            self.inputs.refill_models(kept.choices.model)
            self._model = self.inputs.model_source
            self.explain.show_model(self.inputs.card())
            self.explain.show_choices(kept.choices)
            if kept.volume is not None:
                self.inputs.volume.setCurrentNode(kept.volume)
            self.inputs.regions.setCurrentNode(kept.regions)
            self.results.show_overlay(kept.overlay)
            self._show_results_folder()
            self.show_key(kept.explanation, kept.structure)
        finally:
            self._restoring = False
        self.anomaly.say(NEEDS)
        self.refresh()

    def _on_scene_importing(self) -> None:
        # Until the scene is complete, lists that fill themselves are not the user's choice and must not be remembered.
        self._restoring = True

    def _on_scene_closing(self) -> None:
        self._restoring = True
        self.workbench.stop_all()
        self._segment_watch.clear()
        self.shown = None

    def _on_node_added(self) -> None:
        if not slicer.mrmlScene.IsImporting():
            self.inputs.hide_overlays()

    def _on_node_removed(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting() or self._restoring:
            return
        there = {one.key for one in shown_in(slicer.mrmlScene)}
        if self.shown is not None and self.shown.key not in there:
            self.show_key("")
        else:
            self.refresh()
