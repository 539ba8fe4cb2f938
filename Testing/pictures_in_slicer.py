"""Pictures of a desktop Slicer with the panel in use, for README and extension catalogue.

    Slicer --no-splash --additional-module-paths Agg2Exp --python-script Testing/pictures_in_slicer.py EXPLANATION OUT

EXPLANATION is an Explanation folder (``make demo`` makes one in demo/explanation). The reference that the patient is compared
with is made up from it; scoring needs scikit-learn in Slicer's Python, or the setting Agg2Exp/PythonExecutable.
"""

import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1400, 900)


def turn(seconds=0.5):
    """Let Slicer work and draw."""
    import slicer

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        slicer.app.processEvents()


def take(path):
    """Save a picture of the main window."""
    import slicer.util

    turn(1.0)
    slicer.util.mainWindow().grab().save(str(path))
    print(path, flush=True)


def main(explanation, out):
    """Show an explanation and compare it with a reference, as a user would."""
    import slicer
    import slicer.util

    sys.path.insert(0, str(ROOT))
    from Testing.bench.small_reference import write_reference

    window = slicer.util.mainWindow()
    window.resize(*SIZE)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.util.selectModule("Agg2Exp")
    turn(1.0)
    panel = slicer.modules.Agg2ExpWidget.panel
    panel.presenter.show_folder(explanation)
    panel.results.structure.setCurrentIndex(panel.results.structure.findData("heart"))
    panel.presenter.show_region("heart", "aorta")
    panel.results.buttons["graph3d"].click()
    take(out / "desktop-results.png")

    with tempfile.TemporaryDirectory() as folder:
        reference = write_reference(
            explanation,
            Path(folder) / "60 healthy patients.npz",
            shifted={"lung_lower_lobe_right": ("heart", 0.3), "trachea": ("thyroid_gland", 0.2)},
        )
        for section in (panel.inputs, panel.explain, panel.results):
            section.frame.collapsed = True
        panel.anomaly.frame.collapsed = False
        panel.reference.open(str(reference))
        while panel.task.running:
            turn(0.1)
    panel.presenter.show_region("lung_lower_lobe_right", "")
    panel.results.modes["off"].click()
    panel.anomaly.coloured.setChecked(True)
    take(out / "desktop-unusual.png")


if __name__ == "__main__":
    CODE = 0
    try:
        main(Path(sys.argv[-2]).resolve(), Path(sys.argv[-1]).resolve())
    except BaseException:
        # A window would wait for somebody to close it.
        traceback.print_exc()
        CODE = 1
    import slicer.util

    sys.stdout.flush()
    slicer.util.exit(CODE)
