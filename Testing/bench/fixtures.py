"""A desktop Slicer, on the bench or a real one: scene, application, module, and a child process that needs no network."""

import contextlib
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import stat
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from Testing import bench
from Testing.bench import warm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench_scene(tmp_path, monkeypatch):
    """An empty scene in a Slicer of its own, whose settings and temporary folders are this test's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    if bench.in_slicer:
        yield from slicers_own_scene()
        return
    from Testing.bench import slicer_double

    scene = slicer_double.install(tmp_path)
    yield scene
    scene.Clear(1)


def slicers_own_scene():
    """Yield a desktop Slicer's scene, emptied; its user's settings of this module are as before afterwards."""
    import slicer

    settings = slicer.app.userSettings()
    before = {key: settings.value(key) for key in settings.allKeys() if key.startswith("Agg2Exp/")}
    for key in before:
        settings.remove(key)
    slicer.mrmlScene.Clear(0)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)
    for key in [key for key in settings.allKeys() if key.startswith("Agg2Exp/")]:
        settings.remove(key)
    for key, value in before.items():
        settings.setValue(key, value)


class Child:
    """The fake child: what it does can be said before it starts."""

    def __init__(self, folder):
        self.folder = folder
        self.pid_file = folder / "pid"
        self.program = folder / "python"
        script = ROOT / "Testing" / "bench" / "fake_child.py"
        # The launcher's own path comes first, so that the child finds behaviour.json beside it.
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join([*warm.python(), str(script)])} "$0" "$@"\n')
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self.does()

    def does(self, **behaviour):
        (self.folder / "behaviour.json").write_text(json.dumps({"pid_file": str(self.pid_file), **behaviour}))

    def task(self):
        """What the panel asked of it last."""
        return json.loads((self.folder / "task.json").read_text())

    def pid(self):
        return int(self.pid_file.read_text()) if self.pid_file.is_file() and self.pid_file.read_text() else 0

    def is_there(self):
        try:
            os.kill(self.pid(), 0)
        except ProcessLookupError:
            return False
        # A process that has ended and was not yet asked about is gone all the same.
        return Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def child(tmp_path):
    folder = tmp_path / "child"
    folder.mkdir()
    return Child(folder)


@pytest.fixture
def module(bench_scene):
    """The module file, loaded as Slicer loads it; in a desktop Slicer the one that it has loaded."""
    if bench.in_slicer:
        return importlib.import_module("Agg2Exp")
    spec = importlib.util.spec_from_file_location("Agg2Exp", ROOT / "Agg2Exp" / "Agg2Exp.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def settings(bench_scene, child, tmp_path):
    import slicer

    found = slicer.app.userSettings()
    found.setValue("Agg2Exp/PythonExecutable", str(child.program))
    found.setValue("Agg2Exp/ResultsFolder", str(tmp_path / "results"))
    return found


@pytest.fixture
def widget(module, settings):
    """The module's widget in a panel of 380 pixels, known to ``slicer.modules`` as Slicer's module factory does it."""
    import qt
    import slicer

    class Host(qt.QWidget):
        """Slicer's own widget of a scripted module can be told to make its Python side anew."""

        def reload(self):
            slicer.modules.Agg2ExpWidget = sys.modules.get("Agg2Exp", module).Agg2ExpWidget(self)
            slicer.modules.Agg2ExpWidget.setup()

    host = Host()
    qt.QVBoxLayout(host)
    if not bench.in_slicer:
        slicer.modules = SimpleNamespace()
    known = {name: getattr(slicer.modules, name, None) for name in ("agg2exp", "Agg2ExpWidget")}
    slicer.modules.agg2exp = SimpleNamespace(path=module.__file__, widgetRepresentation=lambda: host)
    before = dict(sys.modules)
    host.reload()
    host.resize(380, 1600)
    host.show()
    yield slicer.modules.Agg2ExpWidget
    slicer.modules.Agg2ExpWidget.cleanup()
    host.close()
    host.deleteLater()
    for name, found in known.items():
        setattr(slicer.modules, name, found)
    # A reload takes the library out; tests that were collected before hold the one that was there.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("Agg2ExpLib", "Agg2Exp")]:
        del sys.modules[name]
    sys.modules.update(
        {name: found for name, found in before.items() if name.partition(".")[0] in ("Agg2ExpLib", "Agg2Exp")}
    )


@pytest.fixture
def panel(widget):
    return widget.panel


def box(*ends):
    """Return a mask of the small explanation's size that is a box."""
    from Testing.bench.small_explanation import SHAPE

    mask = np.zeros(SHAPE, dtype=bool)
    mask[tuple(slice(low, high) for low, high in ends)] = True
    return mask


#: Within the heart, and far from everything.
SPOT = box((5, 8), (5, 8), (5, 8))
ELSEWHERE = box((20, 23), (1, 4), (1, 4))


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """An Explanation folder with two findings, as the child process would have left it; not to be written to."""
    from Testing.bench.small_explanation import write_small_explanation

    folder = tmp_path_factory.mktemp("written") / "chest-explained"
    return write_small_explanation(folder, regions={"spot": SPOT, "far": ELSEWHERE}, model="thorax-phantom")


@pytest.fixture
def explained(panel, written, tmp_path):
    """A panel that shows an explanation of a CT with two findings; no process was needed for it."""
    panel.ct, panel.findings = add_ct(), add_findings(spot=SPOT, far=ELSEWHERE)
    panel.inputs.volume.setCurrentNode(panel.ct)
    panel.inputs.regions.setCurrentNode(panel.findings)
    panel.presenter.show_folder(shutil.copytree(written, tmp_path / "results" / written.name), panel.ct)
    return panel


class Pip:
    """Slicer's installer: the check is real but for what is hidden, and installing is written down instead of done."""

    def __init__(self, check):
        self._check = check
        self.hidden, self.failure, self.answer = set(), None, True
        self.asked, self.installed_requests, self.torch_requests = [], [], []

    def pip_check(self, requirement, _seen=None):
        # Slicer's own reads a text and asks itself for what it has read, by its name: that is, this one.
        if not isinstance(requirement, str | list):
            return requirement.name.lower() not in self.hidden and self._check(requirement, _seen)
        names = [requirement] if isinstance(requirement, str) else requirement
        return all(re.match(r"[\w.-]+", name)[0].lower() not in self.hidden and self._check(name) for name in names)

    def pip_ensure(self, requirements, **others):
        self.installed_requests.append((list(requirements), others))
        self.constraints = Path(others["constraints"]).read_text(encoding="utf-8").splitlines()
        if self.failure:
            raise self.failure
        self.hidden -= {re.match(r"[\w.-]+", name)[0].lower() for name in requirements}

    def confirm(self, text, title=None, **others):
        self.asked.append(text)
        return self.answer


@pytest.fixture
def pip(monkeypatch):
    """Slicer's installer, out of the tests' way; nothing is ever installed by a test."""
    import slicer.packaging
    import slicer.util

    from Agg2ExpLib.panel.compute import packages

    missing = [name for name in ("torch", "monai", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"this Python has no {missing[0]}; these tests hide packages that are there")

    found = Pip(slicer.packaging.pip_check)
    real = packages.installed_version
    monkeypatch.setattr(slicer.packaging, "pip_check", found.pip_check)
    monkeypatch.setattr(slicer.packaging, "pip_ensure", found.pip_ensure)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", found.confirm)
    monkeypatch.setattr(packages, "in_testing", lambda: False)
    monkeypatch.setattr(packages, "installed_version", lambda name: None if name in found.hidden else real(name))
    return found


def read(widget, name):
    """Return a property of a widget, which PythonQt has as an attribute and PySide6 as a method."""
    return widget.property(name)


def add_ct(name="chest"):
    """Add a CT of the small explanation's size to the scene."""
    import slicer
    import slicer.util

    from Testing.bench.small_explanation import AFFINE, scan

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(scan().transpose(2, 1, 0)))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(AFFINE))
    return node


def paint(node, name, mask, identifier=None):
    """Add a segment to a segmentation node, or paint one anew; returns its identifier."""
    import slicer

    from Agg2ExpLib.scene.volumes import image_of, matrix_of
    from Testing.bench.small_explanation import AFFINE

    image = slicer.vtkOrientedImageData()
    image.DeepCopy(image_of(mask.astype(np.uint8)))
    image.SetGeometryFromImageToWorldMatrix(matrix_of(AFFINE))
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segmentation = node.GetSegmentation()
    if identifier:
        segmentation.GetSegment(identifier).AddRepresentation(representation, image)
        segmentation.GetSegment(identifier).Modified()
        return identifier
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation(representation, image)
    segmentation.AddSegment(segment, name)
    return name


def add_findings(**masks):
    """Add a segmentation with one segment a mask."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my findings")
    node.CreateDefaultDisplayNodes()
    for name, mask in masks.items():
        paint(node, name, mask)
    return node


def turn(condition=lambda: False, seconds=120.0):
    """Let the event loop turn until something is so; returns whether it came to be.

    The time is there for what never comes to be: it is so long that a busy machine is not taken for that.
    """
    import qt

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        qt.QCoreApplication.processEvents()
        if condition():
            return True
        time.sleep(0.002)
    return bool(condition())


@contextlib.contextmanager
def work_between_ticks(interval):
    """Yield the seconds of work of this thread between two ticks of a timer, as they come, and what makes one more tick.

    Work is processor time: while the system runs something else the window is not held up by us.
    """
    import qt

    gaps, last = [], [time.thread_time()]

    def tick(*_):
        now = time.thread_time()
        gaps.append(now - last[0])
        last[0] = now

    timer = qt.QTimer()
    timer.setInterval(interval)
    timer.timeout.connect(tick)
    timer.start()
    yield gaps, tick
    tick()
    timer.stop()


def longest_work(condition):
    """Turn the event loop until a condition holds; return the most seconds of work between two ticks of a timer."""
    with work_between_ticks(1) as (gaps, _):
        reached = turn(condition)
    return max(gaps) if reached else float("inf")


def window_answers_within(limit, begin, tries=4):
    """Whether nothing held the event loop up with longer work than that; ``begin`` starts the work and returns what ends it.

    A garbage collection may fall into one try; work that holds the loop up itself does so in every one.
    """
    return any(longest_work(begin()) < limit for _ in range(tries))
