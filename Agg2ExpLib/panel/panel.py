"""The panel: its sections put together, and what happens when something in one of them is chosen or pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel import export, forms, views
from Agg2ExpLib.panel.anomaly_section import AnomalySection
from Agg2ExpLib.panel.batch_results import BatchResults
from Agg2ExpLib.panel.batch_runner import BatchRunner
from Agg2ExpLib.panel.batch_section import BatchSection
from Agg2ExpLib.panel.explain_section import ExplainSection, describe_cost
from Agg2ExpLib.panel.inputs_section import InputsSection
from Agg2ExpLib.panel.job import Outcome
from Agg2ExpLib.panel.log_section import LogSection
from Agg2ExpLib.panel.memory import Memory
from Agg2ExpLib.panel.nodes import Watch, visible_names
from Agg2ExpLib.panel.packages import (
    FOR_COHORTS,
    FOR_FIGURES,
    FOR_SCORES,
    FOR_WORKERS,
    REQUIREMENTS,
    ensure_packages,
    version_problem,
)
from Agg2ExpLib.panel.presenter import Presenter
from Agg2ExpLib.panel.referee import Referee
from Agg2ExpLib.panel.results_section import ResultsSection
from Agg2ExpLib.panel.shown import Shown, shown_in
from Agg2ExpLib.panel.state import Facts, busy_words, panel_state
from Agg2ExpLib.panel.store import Store
from Agg2ExpLib.panel.task import Task
from Agg2ExpLib.panel.workbench import COHORT, AtExit, Workbench


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
        self.inputs = InputsSection(layout, store)
        self.explain = ExplainSection(layout, self._visible_names)
        self.results = ResultsSection(layout)
        self.anomaly = AnomalySection(layout)
        self.batch_section = BatchSection(layout)
        self.log = LogSection(layout)
        layout.addStretch(1)
        self._model = ""
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
            lambda: str(forms.chosen(self.explain.device)),
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
            lambda: self.explain.choices(self.inputs.model_source),
            self._packages_for_batch,
            self._busy,
            self.log.add,
            self.refresh,
        )
        self._connect()
        self._watch_scene()
        self.restore()
        self.batch.restore()

    def _connect(self) -> None:
        self.inputs.changed.connect(self._on_inputs)
        self.explain.changed.connect(self._on_choices)
        self.explain.apply_pressed.connect(self.on_apply)
        self.explain.estimate_pressed.connect(self.on_estimate)
        self.explain.environment_pressed.connect(self.on_environment)
        self.explain.compare_pressed.connect(self.on_compare)
        self.explain.results_pressed.connect(self._on_results_folder)
        self.presenter.changed.connect(self.referee.show)
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

    def _on_inputs(self) -> None:
        source = self.inputs.model_source
        if source != self._model:
            self._model = source
            self.explain.show_model(self.inputs.card())
        self.presenter.watch_segments()
        self._remember()
        self.presenter.tell_about_shown()
        self.presenter.refresh_live()

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
            self.referee.profile,
        )
        self.memory.keep_extra("anomaly", self.referee.view.to_text())

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

    def on_compare(self) -> None:
        """Start a quick comparison of methods on the chosen CT."""
        if self._packages() and self._packages(FOR_FIGURES):
            choices = self.explain.choices(self.inputs.model_source)
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

    def _on_estimated(self, outcome: Outcome, _: Task) -> None:
        if outcome.answer:
            self.explain.say_cost(describe_cost(outcome.answer))

    def _on_compared(self, _: Outcome, task: Task) -> None:
        if task.out is not None:
            self.log.add(export.quality_lines(task.out))
            self.explain.say(f"The comparison of methods is in {task.out}; its table is in the log too.")
            self.presenter.picture = views.show_picture(
                self.explain.frame, task.out / "quality.png", "Quality of methods"
            )

    def _on_environment(self, outcome: Outcome, _: Task) -> None:
        if outcome.answer:
            self.explain.show_devices(list(outcome.answer.get("devices", [])))
            lines = export.environment_lines(outcome.answer)
            self.log.add(lines)
            self.log.frame.collapsed = False
            self.explain.say(export.environment_summary(outcome.answer))

    def _on_explained(self, _: Outcome, task: Task) -> None:
        if task.out is not None:
            self.presenter.show_folder(task.out, self.inputs.ct_node())

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
            self.presenter.show_key(kept.explanation, kept.structure)
            self.referee.view.restore(self.memory.extra("anomaly"))
            self.referee.restore(kept.profile)
        finally:
            self._restoring = False
        self.refresh()

    def _on_scene_importing(self) -> None:
        # Until the scene is complete, lists that fill themselves are not the user's choice and must not be remembered.
        self._restoring = True

    def _on_scene_closing(self) -> None:
        self._restoring = True
        # A batch of many patients belongs to no scene.
        self.workbench.stop_all(but=COHORT)
        self.presenter.forget()

    def _on_node_added(self) -> None:
        if not slicer.mrmlScene.IsImporting():
            self.inputs.hide_overlays()

    def _on_node_removed(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting() or self._restoring:
            return
        there = {one.key for one in shown_in(slicer.mrmlScene)}
        if self.shown is not None and self.shown.key not in there:
            self.presenter.show_key("")
        else:
            self.refresh()
