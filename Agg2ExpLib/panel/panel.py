"""The panel: its sections put together, and what happens when something in one of them is chosen or pressed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.compute.background import load_file_library
from Agg2ExpLib.panel.compute.child import Outcome
from Agg2ExpLib.panel.compute.packages import (
    FOR_COHORTS,
    FOR_FIGURES,
    FOR_SCORES,
    FOR_WORKERS,
    REQUIREMENTS,
    ensure_packages,
    version_problem,
)
from Agg2ExpLib.panel.compute.task import Task
from Agg2ExpLib.panel.compute.workbench import COHORT, AtExit, Workbench
from Agg2ExpLib.panel.controllers import export
from Agg2ExpLib.panel.controllers.batch_results import BatchResults
from Agg2ExpLib.panel.controllers.batch_runner import BatchRunner
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.controllers.reference import Referee
from Agg2ExpLib.panel.memory import Memory
from Agg2ExpLib.panel.nodes import Watch, visible_names
from Agg2ExpLib.panel.sections import forms
from Agg2ExpLib.panel.sections.anomaly import AnomalySection
from Agg2ExpLib.panel.sections.batch import BatchSection
from Agg2ExpLib.panel.sections.explain import ExplainSection, describe_cost
from Agg2ExpLib.panel.sections.inputs import InputsSection
from Agg2ExpLib.panel.sections.log import LogSection
from Agg2ExpLib.panel.sections.results import SLIDER_DELAY_MS, ResultsSection
from Agg2ExpLib.panel.shown import Shown, shown_in
from Agg2ExpLib.panel.store import Store
from Agg2ExpLib.panel.words.buttons import Facts, busy_words, panel_state
from Agg2ExpLib.panel.words.choices import Choices, Overlay


@dataclass(frozen=True)
class _Seen:
    """What the parameter node said last."""

    volume: str
    regions: str
    choices: Choices
    overlay: Overlay
    by_anomaly: bool


class Panel:
    """The whole panel.

    Parameters
    ----------
    ui : object
        The widgets of the .ui by their names.
    workbench : Workbench
        Makes the tasks.
    store : Store
        What is remembered between sessions.
    """

    def __init__(self, ui: Any, workbench: Workbench, store: Store) -> None:
        self.workbench, self.store = workbench, store
        # Now, because at the first Apply it would hold up the click.
        load_file_library()
        self.memory = Memory()
        self.task: Task | None = None
        self.inputs = InputsSection(ui, store)
        self.explain = ExplainSection(ui, self._visible_names)
        self.results = ResultsSection(ui)
        self.anomaly = AnomalySection(ui)
        self.batch_section = BatchSection(ui)
        self.log = LogSection(ui)
        self._seen: _Seen | None = None
        self._restoring = False
        self._packages_ready: set[tuple[str, ...]] = set()
        self._scene_watch = Watch()
        self.presenter = Presenter(
            self.results,
            self.inputs,
            workbench,
            self._run,
            self.refresh,
            self._remember,
            self.memory.overlay,
            lambda: self.memory.choices().device,
            lambda: self._packages(FOR_FIGURES),
        )
        self.referee = Referee(
            self.anomaly,
            self.presenter,
            workbench,
            store,
            self._run,
            lambda: self._packages(FOR_SCORES),
            self._remember,
        )
        self.batch = BatchRunner(
            self.batch_section,
            workbench,
            store,
            BatchResults(self.batch_section, workbench, self.inputs, self.presenter, self._run, self.referee.open),
            self.memory.choices,
            self._packages_for_batch,
            self._busy,
            self.log.add,
            self.refresh,
        )
        self._overlay_timer = qt.QTimer()
        self._overlay_timer.setSingleShot(True)
        self._overlay_timer.setInterval(SLIDER_DELAY_MS)
        self._overlay_timer.timeout.connect(lambda *_: self.presenter.show_overlay())
        self._connect()
        scene, kinds = slicer.mrmlScene, slicer.vtkMRMLScene
        self._scene_watch.add(scene, kinds.NodeAddedEvent, lambda *_: self._on_node_added())
        self._scene_watch.add(scene, kinds.NodeRemovedEvent, lambda *_: self._on_node_removed())
        self.batch.restore()

    def _connect(self) -> None:
        # What the .ui binds to the parameter node is heard of from there; the rest is written here.
        self.inputs.changed.connect(lambda: self.memory.keep(model=self.inputs.model_source))
        self.explain.changed.connect(self._on_explain)
        self.results.mode_changed.connect(lambda mode: self.memory.keep(overlay=mode))
        self.explain.apply_pressed.connect(self.on_apply)
        self.explain.estimate_pressed.connect(self.on_estimate)
        self.explain.environment_pressed.connect(self.on_environment)
        self.explain.compare_pressed.connect(self.on_compare)
        self.explain.results_pressed.connect(self._on_results_folder)
        self.presenter.changed.connect(self.referee.show)
        self._at_exit = AtExit(self.workbench.stop_all)

    def close(self) -> None:
        """Stop everything and hear nothing more: for reload and exit."""
        self.workbench.stop_all()
        self._at_exit.cancel()
        self._scene_watch.clear()
        self._overlay_timer.stop()
        self.presenter.close()
        self.batch.close()
        self.log.stop()

    @property
    def shown(self) -> Shown | None:
        """The explanation that is shown."""
        return self.presenter.shown

    # What is chosen

    def facts(self) -> Facts:
        """Return what is so now."""
        volume = self.inputs.ct_node()
        shown = self.shown
        running = self.task if self.task and self.task.running else None
        choices = self.memory.choices()
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
            profile=self.referee.profile,
            batch=self.batch.running,
        )

    def refresh(self) -> None:
        """Give every button its look."""
        state = panel_state(self.facts())
        self.explain.show_state(state)
        self.results.show_state(state)
        self.anomaly.show_state(state)
        self.batch.show_state()

    def on_parameters(self) -> None:
        """Follow the parameter node: a widget, a script or the panel itself has changed something in it."""
        if self._restoring or self.memory.node is None:
            return
        was, now = self._seen, self._look()
        self._seen = now
        if was is None or was.choices.model != now.choices.model:
            self._on_model()
        elif was.choices != now.choices:
            self.explain.say_cost("")
            self._restored(lambda: self.explain.show_choices(now.choices))
        if was is None or (was.volume, was.regions, was.choices.model) != (now.volume, now.regions, now.choices.model):
            self.presenter.watch_segments()
            self.presenter.tell_about_shown()
            self.presenter.refresh_live()
        if was is not None and was.overlay != now.overlay:
            self._on_overlay(was.overlay, now.overlay)
        if was is not None and was.by_anomaly != now.by_anomaly:
            self.referee.view.on_coloured()
        self.refresh()

    def _look(self) -> _Seen:
        nodes = (self.memory.node.inputVolume, self.memory.node.extraRegions)
        volume, regions = (node.GetID() if node is not None else "" for node in nodes)
        return _Seen(volume, regions, self.memory.choices(), self.memory.overlay(), self.memory.node.colourByAnomaly)

    def _on_model(self) -> None:
        self.explain.say_cost("")
        self._restored(lambda: self.inputs.choose_model(self.memory.choices().model))
        self.explain.show_model(self.inputs.card())
        self.memory.keep_structures(self.explain.structures.ticked())

    def _on_overlay(self, was: Overlay, now: Overlay) -> None:
        if was.mode != now.mode:
            self._restored(lambda: self.results.show_mode(now.mode))
        dragged = replace(was, percentile=now.percentile, opacity=now.opacity)
        if dragged == now:
            self._overlay_timer.start()
        else:
            self.presenter.show_overlay()

    def _restored(self, show: Callable[[], None]) -> None:
        """Show what the parameter node says, without writing to it what the widgets say meanwhile."""
        before, self._restoring = self._restoring, True
        try:
            show()
        finally:
            self._restoring = before

    def _on_explain(self) -> None:
        if not self._restoring:
            self.memory.keep(device=str(forms.chosen(self.explain.device)))
            self.memory.keep_structures(self.explain.structures.ticked())

    def _remember(self) -> None:
        if not self._restoring:
            shown = self.shown
            self.memory.keep(
                explanation=shown.key if shown else "",
                structure=shown.structure if shown else "",
                profile=self.referee.profile,
            )

    def _visible_names(self) -> set[str]:
        nodes = [self.inputs.regions.currentNode(), self.shown.saved.segmentation_node if self.shown else None]
        return set().union(*(visible_names(node) for node in nodes))

    def _on_results_folder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.explain.frame, _("Keep explanations in"))
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
                self.memory.choices(),
                self.inputs.regions.currentNode(),
                labels=card.labels if card else (),
            ),
            self._on_explained,
        )

    def on_estimate(self) -> None:
        """Start an estimate."""
        if self._packages():
            choices = self.memory.choices()
            self._run(lambda: self.workbench.estimate(self.inputs.ct_node(), choices), self._on_estimated)

    def on_compare(self) -> None:
        """Start a quick comparison of methods on the chosen CT."""
        if self._packages() and self._packages(FOR_FIGURES):
            choices = self.memory.choices()
            self._run(lambda: self.workbench.compare(self.inputs.ct_node(), choices), self._on_compared)

    def on_environment(self) -> None:
        """Start the check of packages and devices."""
        self._run(self.workbench.environment, self._on_environment)

    def _packages(self, wanted: tuple[str, ...] = REQUIREMENTS) -> bool:
        """Check the packages of Slicer's own Python once; another Python is its owner's business."""
        if wanted in self._packages_ready or self.store.interpreter():
            return True
        report = ensure_packages(wanted)
        if report.ready:
            self._packages_ready.add(wanted)
        if not report.ready:
            self.log.add(list(report.lines))
            self._complain(report.sentence)
        return report.ready

    def _packages_for_batch(self, workers: int) -> bool:
        wanted = [REQUIREMENTS, FOR_COHORTS, *([FOR_WORKERS] if workers > 1 else [])]
        return all(self._packages(one) for one in wanted)

    def _busy(self) -> str:
        return busy_words(self.facts())

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

    def _on_estimated(self, outcome: Outcome, task: Task) -> None:
        if outcome.answer:
            self.explain.say_cost(describe_cost(outcome.answer))

    def _on_compared(self, outcome: Outcome, task: Task) -> None:
        if task.out is not None:
            self.log.add(export.quality_lines(task.out))
            self.explain.say(
                _("The comparison of methods is in {folder}; its table is in the log too.").format(folder=task.out)
            )
            self.presenter.picture = views.show_picture(
                self.explain.frame, task.out / "quality.png", _("Quality of methods")
            )

    def _on_environment(self, outcome: Outcome, task: Task) -> None:
        if outcome.answer:
            self.explain.show_devices(list(outcome.answer.get("devices", [])))
            lines = export.environment_lines(outcome.answer)
            self.log.add(lines)
            self.log.frame.collapsed = False
            self.explain.say(export.environment_summary(outcome.answer))

    def _on_explained(self, outcome: Outcome, task: Task) -> None:
        if task.out is not None:
            self.presenter.show_folder(task.out, self.inputs.ct_node())

    # The scene

    def attach(self, node: Any) -> None:
        """Show what a scene's parameter node says, and follow it; ``None`` while a scene is closed or loaded."""
        self.memory.node = None
        if node is not None:
            self._restored(lambda: self._attach(node))
            self.refresh()

    def _attach(self, node: Any) -> None:
        self.memory.node = node
        choices = self.memory.choices()
        self.inputs.hide_overlays()
        self.inputs.refill_models(choices.model)
        self.explain.show_model(self.inputs.card())
        self.explain.show_choices(choices)
        self.results.show_mode(self.memory.overlay().mode)
        # A model that is gone, or structures that it does not have, cannot be shown.
        self.memory.keep(model=self.inputs.model_source)
        self.memory.keep_structures(self.explain.structures.ticked())
        self._show_results_folder()
        self.presenter.show_key(node.explanation, node.structure)
        self.referee.restore(node.profile)
        self._seen = self._look()

    def on_scene_closing(self) -> None:
        """Stop what runs and let go of what is shown; a batch of many patients belongs to no scene."""
        self.workbench.stop_all(but=COHORT)
        self.presenter.forget()

    def _on_node_added(self) -> None:
        if not slicer.mrmlScene.IsImporting():
            self.inputs.hide_overlays()

    def _on_node_removed(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting() or self.memory.node is None:
            return
        there = {one.key for one in shown_in(slicer.mrmlScene)}
        if self.shown is not None and self.shown.key not in there:
            self.presenter.show_key("")
        else:
            self.refresh()
