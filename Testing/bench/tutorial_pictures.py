"""Pictures of the tutorial's steps: the sample opened, a region painted on it, a what-if.

``python -m Testing.bench.tutorial_pictures OUT`` opens the sample that comes with the extension; the what-if is computed by the
real child process and the bundled model, which takes a minute or more on a CPU.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]


def story(studio):
    """One session with the sample."""
    import numpy as np

    from Agg2ExpLib.panel.sections import widgets
    from Testing.bench.fixtures import turn

    panel = studio.panel
    studio.only("results")
    panel.presenter.show_folder(studio.widget.logic.sampleFolder())
    widgets.choose(panel.results.structure, "heart")
    panel.results.table.choose_region("heart")
    studio.take("1-sample")
    prediction = panel.shown.in_scene.explanation.model_prediction()
    # A lesion as somebody would paint it: a ball at the border of the heart.
    places = np.indices(prediction.voxels.shape).transpose(1, 2, 3, 0)
    middle = np.argwhere(prediction.voxels == panel.shown.in_scene.explanation.labels.index("heart")).mean(axis=0)
    ball = np.linalg.norm(places - middle - (12, 0, 0), axis=-1) < 6
    panel.inputs.regions.setCurrentNode(segmentation_of("my lesion", ball, prediction.affine))
    turn(lambda: any(row.name == "my lesion" for row in panel.results.table.rows), 10)
    own = next(row for row in panel.results.table.rows if row.name == "my lesion")
    panel.results.table.choose_region(own.region)
    studio.take("2-painted")
    widgets.choose(panel.results.region, "pleural_effusion")
    panel.results.buttons["whatif"].click()
    if not turn(lambda: not panel.task.running, 1200) or panel.task.outcome.status != "done":
        raise SystemExit(f"the what-if did not end well: {panel.task.outcome}")
    studio.take("3-whatif")


def segmentation_of(name, mask, affine):
    """Add a segmentation with one segment."""
    import numpy as np
    import slicer

    from Agg2ExpLib.scene.volumes import image_of, matrix_of

    image = slicer.vtkOrientedImageData()
    image.DeepCopy(image_of(mask.astype(np.uint8)))
    image.SetGeometryFromImageToWorldMatrix(matrix_of(affine))
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetColor(0.2, 0.9, 0.4)
    segment.AddRepresentation(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName(), image)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "my findings")
    node.CreateDefaultDisplayNodes()
    node.GetSegmentation().AddSegment(segment, name)
    return node


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT))
    from Testing import bench

    bench.offer()
    from Testing.bench import screenshots, slicer_double

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
        screenshots.use_theme(False)
        studio = screenshots.Studio(module, out, "light")
        take = studio.take
        studio.take = lambda name: take(f"tutorial-{name}")
        story(studio)
        studio.widget.cleanup()
        studio.host.close()
        scene.Clear(1)


if __name__ == "__main__":
    main()
