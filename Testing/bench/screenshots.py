"""Pictures of every section of the panel, empty and filled by the sample, light and dark, 360 pixels wide.

``python -m Testing.bench.screenshots OUT``; with ``--scale 1.5`` as on a screen whose scaling is 150 %.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = ROOT / "Agg2Exp" / "Resources"
WIDTH = 360
DARK = {
    "Window": (50, 50, 50), "WindowText": (240, 240, 240), "Base": (35, 35, 35), "AlternateBase": (44, 44, 44),
    "Text": (240, 240, 240), "Button": (60, 60, 60), "ButtonText": (240, 240, 240), "ToolTipBase": (60, 60, 60),
    "ToolTipText": (240, 240, 240), "Highlight": (42, 130, 218), "HighlightedText": (255, 255, 255),
    "PlaceholderText": (150, 150, 150), "Light": (80, 80, 80), "Mid": (90, 90, 90), "Dark": (30, 30, 30),
}  # fmt: skip


def use_theme(dark):
    import qt

    palette = qt.QPalette(qt.QColor(60, 60, 60)) if dark else qt.QPalette(qt.QColor(239, 239, 239))
    for name, colour in DARK.items() if dark else ():
        palette.setColor(getattr(qt.QPalette, name), qt.QColor(*colour))
    if dark:
        for role in ("WindowText", "Text", "ButtonText"):
            palette.setColor(qt.QPalette.Disabled, getattr(qt.QPalette, role), qt.QColor(130, 130, 130))
    qt.QApplication.setStyle("Fusion")
    qt.QApplication.setPalette(palette)


def turn(seconds=0.3):
    import qt

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        qt.QCoreApplication.processEvents()


class Studio:
    """One panel, and a camera."""

    def __init__(self, module, out, theme):
        import qt

        self.host = qt.QWidget()
        layout = qt.QVBoxLayout(self.host)
        layout.setContentsMargins(4, 4, 4, 4)
        self.widget = module.Agg2ExpWidget(self.host)
        self.widget.setup()
        self.panel = self.widget.panel
        self.out, self.theme = out, theme
        self.host.resize(WIDTH, 900)
        self.host.show()
        self.contents = self.widget.ui.sectionsContents

    def only(self, *sections):
        panel = self.panel
        frames = {
            "inputs": panel.inputs.frame,
            "explain": panel.explain.frame,
            "results": panel.results.frame,
            "anomaly": panel.anomaly.frame,
            "cohort": panel.batch_section.frame,
            "log": panel.log.frame,
        }
        for name, frame in frames.items():
            frame.collapsed = name not in sections

    def take(self, name):
        turn()
        # As high as all that scrolls, so that nothing is left out.
        for _round in range(3):
            strip = self.panel.strip.frame.height() + 8 if self.panel.strip.frame.isVisible() else 0
            needed = self.contents.layout().totalHeightForWidth(self.contents.width())
            self.host.resize(WIDTH, needed + strip + 8)
            turn(0.1)
        path = self.out / f"panel-{name}-{self.theme}.png"
        self.host.grab().save(str(path))
        print(path, self.host.width(), "x", self.host.height())


def show_whatifs(panel, explanation):
    """Two what-ifs and what a structure needs, as if the network had just predicted again; made up."""
    import shutil

    from Agg2ExpLib.panel.compute.task import Outcome
    from Agg2ExpLib.panel.controllers.whatif import show_whatif_segmentation

    for region, fill, after in (("pleural_effusion", "air", 1180.0), ("heart", "shell", 905.0)):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(explanation / "prediction.nii.gz", folder)
            lines = [
                "class,dice,volume_before_ml,volume_after_ml",
                f"lung_lower_lobe_right,0.88,944.0,{after}",
                "heart,0.98,612.0,598.0",
            ]
            (Path(folder) / "whatif.csv").write_text("\n".join(lines) + "\n")
            show_whatif_segmentation(Path(folder), panel.shown, region, fill)
    answer = {
        "sentence": "The heart needs 12 mm around it.",
        "tried": [[0, 0.2], [5, 0.6], [10, 0.91], [12, 0.96], [20, 0.99]],
    }
    panel.whatif._on_answered(Outcome("done", answer=answer), panel.shown, panel.shown.structure)


def show_instances(panel, name):
    """The instances of a structure, as if they had just been explained; made up."""
    from Agg2ExpLib.panel.compute.task import Outcome
    from Testing.bench.fake_child import instances

    place = panel.results.structure.findData(name)
    if place < 0:
        raise ValueError(f"{name} is not explained in the sample")
    panel.results.structure.setCurrentIndex(place)
    panel.instances._on_answered(Outcome("done", answer=instances({"classes": name})), panel.shown, name)
    panel.results.instances.table.setCurrentCell(1, 0)


def show_many_regions(panel):
    """The table with the classes of a large model, and one group of them chosen; made up."""
    from dataclasses import replace

    from Agg2ExpLib.anatomy import structure
    from Agg2ExpLib.models.formats import totalsegmentator_classes as classes
    from Agg2ExpLib.panel.sections import widgets

    names = (*classes.ORGANS, *classes.VERTEBRAE, *classes.HEART, *classes.MUSCLES, *classes.RIBS)
    first = panel.results.table.rows[0]
    rows = [
        replace(first, region=name, name=structure(name).name, colour=structure(name).colour, share=0.2 / (number + 1))
        for number, name in enumerate(names)
    ]
    panel.results.table.show_rows(rows, "heart")
    widgets.choose(panel.results.table.group, "gut")


def show_batch(panel):
    """A batch in the middle of its work, as the section shows it; nothing runs."""
    from Agg2ExpLib.panel.controllers.batch import describe_settings
    from Agg2ExpLib.panel.words.batch import CaseState, Seen, describe_progress
    from Agg2ExpLib.panel.words.batch_buttons import BatchFacts, batch_state

    reason = "/data/cts/s0007.nii.gz cannot be read as an image; export it again"
    cases = [CaseState(f"s{number:04d}", "done" if number < 24 else "waiting") for number in range(60)]
    cases[7] = CaseState("s0007", "failed", reason)
    section = panel.batch_section
    section.show_paths("/data/cts", "/data/cohort-thorax")
    section.say_settings(describe_settings(panel.parameters.choices()))
    section.show_cases(Seen(tuple(cases)))
    section.line.show(24, 60, describe_progress(24, 60, 1, 2530.0))
    section.show_state(batch_state(BatchFacts(running=True, finished=23, failed=1, waiting=36)))


def session(studio):
    """The story of one patient."""
    from Agg2ExpLib.panel import samples
    from Agg2ExpLib.panel.words.buttons import Facts, panel_state
    from Agg2ExpLib.progress import Event

    panel, logic = studio.panel, studio.widget.logic
    studio.only("inputs", "explain", "results", "anomaly", "cohort", "log")
    studio.take("0-empty")
    studio.only("inputs", "explain")
    studio.take("1-start")
    explanation = logic.sampleFolder()
    panel.show_sample(explanation, samples.own_cohort(RESOURCES, logic.settings.results_folder()))
    studio.only("inputs", "explain", "results", "anomaly", "cohort", "log")
    studio.take("0b-filled")
    studio.only("inputs", "explain")
    panel.explain.show_state(panel_state(Facts(volume="ct", job="explain")))
    panel.strip.begin()
    panel.strip.show_event(Event("attributions", 7, 20, "heart", 42.0, least_left=42.0, most_left=42.0))
    studio.take("2-running")
    panel.strip.show_event(Event("segmentation", 3, 20, "", 42.0, "question", 2880.0, 9000.0))
    studio.take("2b-question")
    panel.strip.end_progress()
    panel.refresh()
    panel.explain.line.say("")
    panel.results.structure.setCurrentIndex(panel.results.structure.findData("heart"))
    studio.only("results")
    panel.results.table.table.setCurrentCell(2, 0)
    studio.take("3-results")
    show_many_regions(panel)
    studio.take("3b-many-regions")
    panel.presenter.refresh_live()
    panel.results.modes["signed"].click()
    studio.take("4-for-against")
    panel.results.modes["magnitude"].click()
    show_whatifs(panel, explanation)
    studio.only("results")
    studio.take("4b-whatif")
    show_instances(panel, "lung_lower_lobe_right")
    studio.only("results")
    studio.take("4c-instances")
    studio.only("inputs", "explain", "anomaly", "log")
    panel.explain.advanced.collapsed = False
    panel.inputs.show_card()
    panel.log.add(["Agg2Exp 0.1.0, Python 3.12.10", "cpu  CPU, 8 threads"])
    studio.take("5-everything-else")
    studio.only("anomaly")
    panel.presenter.show_region("lung_lower_lobe_right", "")
    panel.anomaly.coloured.setChecked(True)
    studio.take("6-anomaly")
    studio.only("cohort")
    show_batch(panel)
    studio.take("7-cohort")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", default="1", help="of the screen, such as 1.5")
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    given = parser.parse_args()
    os.environ["QT_SCALE_FACTOR"] = given.scale
    given.out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT))
    from Testing import bench

    bench.offer()
    from Testing.bench import slicer_double

    with tempfile.TemporaryDirectory() as folder:
        scene = slicer_double.install(folder)
        import slicer

        settings = slicer.app.userSettings()
        settings.setValue("Agg2Exp/PythonExecutable", sys.executable)
        settings.setValue("Agg2Exp/ResultsFolder", str(Path(folder) / "results"))
        spec = importlib.util.spec_from_file_location("Agg2Exp", ROOT / "Agg2Exp" / "Agg2Exp.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        slicer.modules = SimpleNamespace(agg2exp=SimpleNamespace(path=module.__file__))
        for theme in given.themes:
            use_theme(theme == "dark")
            studio = Studio(module, given.out, theme)
            session(studio)
            studio.widget.cleanup()
            studio.host.close()
            scene.Clear(1)


if __name__ == "__main__":
    main()
