"""The panel: its sections put together, and what happens when something in one of them is chosen or pressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from Agg2ExpLib.errors import Agg2ExpError
from Agg2ExpLib.panel import views
from Agg2ExpLib.panel.compute.background import load_libraries
from Agg2ExpLib.panel.compute.packages import FOR_FIGURES, REQUIREMENTS, version_problem
from Agg2ExpLib.panel.compute.runner import AtExit, Runner
from Agg2ExpLib.panel.compute.task import Outcome, Task
from Agg2ExpLib.panel.compute.task_maker import COHORT, TaskMaker
from Agg2ExpLib.panel.controllers import export
from Agg2ExpLib.panel.controllers.batch import BatchController
from Agg2ExpLib.panel.controllers.batch_results import BatchResults
from Agg2ExpLib.panel.controllers.instances import InstancesController
from Agg2ExpLib.panel.controllers.presenter import Presenter
from Agg2ExpLib.panel.controllers.reference import ReferenceController
from Agg2ExpLib.panel.controllers.whatif import WhatIfController
from Agg2ExpLib.panel.current_explanation import CurrentExplanation, shown_in
from Agg2ExpLib.panel.desk import Desk, sentence
from Agg2ExpLib.panel.nodes import Watch, visible_names
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.anomaly import AnomalySection
from Agg2ExpLib.panel.sections.batch import BatchSection
from Agg2ExpLib.panel.sections.explain import ExplainSection, describe_cost
from Agg2ExpLib.panel.sections.inputs import InputsSection
from Agg2ExpLib.panel.sections.log import LogSection
from Agg2ExpLib.panel.sections.results import SLIDER_DELAY_MS, ResultsSection
from Agg2ExpLib.panel.sections.task_line import JobStrip, rough
from Agg2ExpLib.panel.words.buttons import Facts, panel_state
from Agg2ExpLib.panel.words.choices import QUICK, Choices, Overlay
from Agg2ExpLib.panel.words.refining import nothing_to_refine, refined, seconds_of


@dataclass(frozen=True)
class _Seen:
    """What the parameter node said last."""

    volumes: tuple[str, ...]
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
    tasks, runner : TaskMaker, Runner
        Make tasks and run them, for the panel and for scripts alike.
    """

    def __init__(self, ui: Any, tasks: TaskMaker, runner: Runner) -> None:
        # Now, because at the first Apply it would hold up the click.
        load_libraries()
        self.explain = ExplainSection(ui, self._visible_names)
        self.strip = JobStrip(ui)
        self.desk = Desk(tasks, runner, self.explain.line, self.strip)
        self.parameters = self.desk.parameters
        self.inputs = InputsSection(ui, self.desk.settings)
        self.results = ResultsSection(ui)
        self.anomaly = AnomalySection(ui)
        self.batch_section = BatchSection(ui)
        self.log = LogSection(ui)
        self._seen: _Seen | None = None
        self._scene_watch = Watch()
        self.presenter = Presenter(self.results, self.inputs, self.desk)
        self.whatif = WhatIfController(self.results, self.presenter, self.desk)
        self.instances = InstancesController(self.results, self.presenter, self.desk)
        self.reference = ReferenceController(self.anomaly, self.presenter, self.desk)
        results = BatchResults(self.batch_section, self.desk, self.inputs, self.presenter, self.reference.open)
        self.batch = BatchController(self.batch_section, self.desk, results)
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
        self.inputs.changed.connect(lambda: self.parameters.keep(model=self.inputs.model_source))
        self.inputs.form.pressed.connect(self.on_add_model)
        self.explain.changed.connect(self._on_explain)
        self.results.mode_changed.connect(lambda mode: self.parameters.keep(overlay=mode))
        self.explain.options.changed.connect(self._on_options)
        self.explain.apply_pressed.connect(self.on_apply)
        self.explain.refine_pressed.connect(self.on_refine)
        self.explain.estimate_pressed.connect(self.on_estimate)
        self.explain.environment_pressed.connect(self.on_environment)
        self.explain.compare_pressed.connect(self.on_compare)
        self.explain.results_pressed.connect(self._on_results_folder)
        self.presenter.changed.connect(self.reference.show)
        self.desk.logged.connect(self.log.add)
        self.desk.changed.connect(self.refresh)
        self._at_exit = AtExit(self._stop)

    def close(self) -> None:
        """Stop everything and hear nothing more: for reload and exit."""
        self._stop()
        self._at_exit.cancel()
        self._scene_watch.clear()
        self._overlay_timer.stop()
        self.presenter.close()
        self.batch.close()
        self.log.stop()

    def _stop(self) -> None:
        self.desk.runner.stop_all()
        self.desk.tasks.scans.clear()

    @property
    def task(self) -> Task | None:
        """The task that the user waits for, or waited for last."""
        return self.desk.runner.latest

    @property
    def shown(self) -> CurrentExplanation | None:
        """The explanation that is shown."""
        return self.presenter.shown

    # What is chosen

    def facts(self) -> Facts:
        """Return what is so now."""
        volume = self.inputs.ct_node()
        shown = self.shown
        task, choices = self.desk.runner.current, self.desk.choices()
        return Facts(
            volume=volume.GetName() if volume else "",
            problem=version_problem(slicer.app) or self._inputs_problem() or choices.problem(),
            job=self.desk.job(),
            cancelling=bool(task and task.cancelling),
            shown=shown is not None,
            structure=shown.structure if shown else "",
            scan=shown is None or shown.ct_node is not None,
            structures=len(shown.explained) if shown else 0,
            region=str(widgets.read(self.results.region, "currentText")) if shown else "",
            computed_here=shown.computed_here if shown else True,
            figures=export.figures_available(),
            profile=self.reference.profile,
            batch=self.batch.running,
            ticked=choices.structures != (),
            **self._refining(choices),
        )

    def _inputs_problem(self) -> str:
        try:
            return self.inputs.model_problem() or self.inputs.volumes_problem()
        except Agg2ExpError as error:
            return sentence(str(error))

    def _refining(self, choices: Choices) -> dict[str, str]:
        """Whether what is shown can be refined, and how long that takes."""
        shown, card = self.shown, self.inputs.card()
        if shown is None or shown.in_scene is None or shown.ct_node is None:
            return {"refinable": _("What is shown has no scan or no folder any more; press Apply.")}
        if card is not None and card.name != shown.model_name:
            return {"refinable": _("What is shown was made with another model; press Apply.")}
        document, wanted = shown.in_scene.explanation.document, refined(choices, shown.explained)
        seconds = seconds_of(document, wanted)
        time = _("about {time}").format(time=rough(seconds)) if seconds is not None else ""
        return {"refinable": nothing_to_refine(document, wanted), "refine_time": time}

    def refresh(self) -> None:
        """Give every button its look."""
        state = panel_state(self.facts())
        self.explain.show_state(state)
        self.results.show_state(state)
        self.anomaly.show_state(state)
        self.batch.show_state()

    def show_sample(self, folder: Path, cohort: Path | None) -> None:
        """Show the explained sample, how it compares with the reference that comes with it, and that one's cohort."""
        self.presenter.show_folder(folder)
        self.reference.show_sample()
        if cohort is not None:
            self.batch.show_sample(str(cohort))

    def on_parameters(self) -> None:
        """Follow the parameter node: a widget, a script or the panel itself has changed something in it."""
        if self.parameters.restoring or self.parameters.node is None:
            return
        was, now = self._seen, self._look()
        self._seen = now
        if was is None or was.choices.model != now.choices.model:
            self._on_model()
        elif was.choices != now.choices:
            self.explain.say_cost("")
            self._restored(lambda: self.explain.show_choices(now.choices))
        if was is None or (was.volumes, was.regions, was.choices.model) != (
            now.volumes,
            now.regions,
            now.choices.model,
        ):
            self.presenter.watch_segments()
            self.presenter.tell_about_shown()
            self.presenter.refresh_live()
        if was is not None and was.overlay != now.overlay:
            self._on_overlay(was.overlay, now.overlay)
        if was is not None and was.by_anomaly != now.by_anomaly:
            self.reference.plots.on_coloured()
        self.refresh()

    def _look(self) -> _Seen:
        node = self.parameters.node
        chosen = (node.inputVolume, node.inputVolume2, node.inputVolume3, node.inputVolume4, node.extraRegions)
        *volumes, regions = (one.GetID() if one is not None else "" for one in chosen)
        return _Seen(
            tuple(volumes),
            regions,
            self.parameters.choices(),
            self.parameters.overlay(),
            self.parameters.node.colourByAnomaly,
        )

    def _on_model(self) -> None:
        self.explain.say_cost("")
        self._restored(lambda: self.inputs.choose_model(self.parameters.choices().model))
        self.inputs.show_channels()
        self.explain.show_model(self.inputs.card())
        self.parameters.keep_structures(self.explain.structures.ticked())

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
        with self.parameters.restored():
            show()

    def _on_explain(self) -> None:
        if not self.parameters.restoring:
            self.parameters.keep(device=str(widgets.chosen(self.explain.device)))
            self.parameters.keep_structures(self.explain.structures.ticked())

    def _on_options(self) -> None:
        self.parameters.remember_options(self.desk.choices().method, self.explain.options.values())

    def _visible_names(self) -> set[str]:
        nodes = [self.inputs.regions.currentNode(), self.shown.saved.segmentation_node if self.shown else None]
        return set().union(*(visible_names(node) for node in nodes))

    def _on_results_folder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.explain.frame, _("Keep explanations in"))
        if folder:
            self.desk.settings.set_results_folder(folder)
        self._show_results_folder()

    def _show_results_folder(self) -> None:
        folder = self.desk.settings.results_folder()
        self.explain.results_folder.setText(folder.name or str(folder))
        self.explain.results_folder.setToolTip(str(folder))

    # Tasks

    def on_apply(self) -> None:
        """Start an explanation, or cancel what runs."""
        if self.desk.runner.current is not None:
            self.desk.runner.cancel()
            return
        choices = self.desk.choices()
        if choices.structures == ():
            visible = self.explain.structures.labels_of(self._visible_names())
            choices = replace(choices, structures=tuple(visible) if len(visible) <= QUICK else ())
        self._explain(self.inputs.ct_node(), choices)

    def on_refine(self) -> None:
        """Go on from what is shown to SmoothGrad and to what is ticked beside it."""
        shown = self.shown
        if shown is not None:
            self._explain(shown.ct_node, refined(self.desk.choices(), shown.explained))

    def _explain(self, ct: Any, choices: Choices) -> None:
        regions, scan = self.inputs.regions.currentNode(), self.inputs.scan_nodes(ct)
        structure = self.shown.structure if self.shown else ""
        if choices.structures and structure not in choices.structures:
            # Who asks for one structure wants to see that one.
            structure = choices.structures[0]
        self.desk.run(
            lambda: self.desk.tasks.explain(scan, choices, regions),
            lambda outcome, task: self.presenter.show_folder(task.out or Path(), ct, structure),
            needs=(REQUIREMENTS,),
        )

    def on_estimate(self) -> None:
        """Start an estimate."""
        scan, choices = self.inputs.scan_nodes(), self.desk.choices()
        self.desk.run(lambda: self.desk.tasks.estimate(scan, choices), self._on_estimated, needs=(REQUIREMENTS,))

    def on_compare(self) -> None:
        """Start a quick comparison of methods on the chosen CT."""
        scan, choices = self.inputs.scan_nodes(), self.desk.choices()
        needs = (REQUIREMENTS, FOR_FIGURES)
        self.desk.run(lambda: self.desk.tasks.compare(scan, choices), self._on_compared, needs=needs)

    def on_add_model(self, source: str, options: Mapping[str, Any]) -> None:
        """Load a model once, with what was said of it, and choose it when it can be used."""
        if Path(source).exists() and self.inputs.has_card(source):
            self.inputs.add_model(source)
            return
        given = {"name": self.inputs.name_for(source), **options}
        self.desk.run(
            lambda: self.desk.tasks.add_model(source, given),
            lambda outcome, task: self.inputs.take_added(str((outcome.answer or {}).get("name", given["name"]))),
            self.inputs.form.line,
            needs=(REQUIREMENTS,),
        )

    def on_environment(self) -> None:
        """Start the check of packages and devices."""
        self.desk.run(self.desk.tasks.environment, self._on_environment)

    def _on_estimated(self, outcome: Outcome, task: Task) -> None:
        if outcome.answer:
            self.explain.say_cost(describe_cost(outcome.answer))

    def _on_compared(self, outcome: Outcome, task: Task) -> None:
        if task.out is not None:
            self.log.add(export.quality_lines(task.out))
            self.explain.line.say(
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
            self.explain.line.say(export.environment_summary(outcome.answer))

    # The scene

    def attach(self, node: Any) -> None:
        """Show what a scene's parameter node says, and follow it; ``None`` while a scene is closed or loaded."""
        self.parameters.node = None
        if node is not None:
            self._restored(lambda: self._attach(node))
            self.refresh()

    def _attach(self, node: Any) -> None:
        self.parameters.node = node
        choices = self.parameters.choices()
        self.inputs.hide_overlays()
        self.inputs.refill_models(choices.model)
        self.inputs.show_channels()
        self.explain.show_model(self.inputs.card())
        self.explain.show_choices(choices)
        self.results.show_mode(self.parameters.overlay().mode)
        # A model that is gone, or structures that it does not have, cannot be shown.
        self.parameters.keep(model=self.inputs.model_source)
        self.parameters.keep_structures(self.explain.structures.ticked())
        self._show_results_folder()
        self.presenter.show_key(node.explanation, node.structure)
        self.presenter.follow_crosshair()
        self.reference.restore(node.profile)
        self._seen = self._look()

    def on_scene_closing(self) -> None:
        """Stop what runs and let go of what is shown; a batch of many patients belongs to no scene."""
        self.desk.runner.stop_all(but=COHORT)
        self.desk.tasks.scans.clear()
        self.presenter.forget()

    def _on_node_added(self) -> None:
        if not slicer.mrmlScene.IsImporting():
            self.inputs.hide_overlays()

    def _on_node_removed(self) -> None:
        if slicer.mrmlScene.IsClosing() or slicer.mrmlScene.IsImporting() or self.parameters.node is None:
            return
        there = {one.key for one in shown_in(slicer.mrmlScene)}
        if self.shown is not None and self.shown.key not in there:
            self.presenter.show_key("")
        else:
            self.presenter.tell_about_shown()
            self.refresh()
