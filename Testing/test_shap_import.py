"""shap beside 3D Slicer's ``slicer``: whichever is imported first, both work and neither is changed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.methods.games.shap_import import import_shap, private_folder
from Testing.bench import warm

ROOT = Path(__file__).resolve().parents[1]
installed = importlib.util.find_spec("shap") is not None and (private_folder() / "slicer").is_dir()
needs_shap = pytest.mark.skipif(
    not installed, reason="shap is not installed; python -m Agg2ExpLib.methods.games.shap_import"
)

STAND_IN = {
    "slicer/__init__.py": "from slicer.parts import mrmlScene\napp = 'the application'\n",
    "slicer/parts.py": "mrmlScene = object()\n",
    "slicer/util.py": "import slicer\n\ndef scene():\n    return slicer.mrmlScene\n",
    # 3D Slicer has a module of this name too.
    "slicer/slicer.py": "raise AssertionError('nobody imports this')\n",
}
USES_SLICER = """
import slicer, slicer.util
scene = slicer.util.scene()
assert slicer.app == "the application" and slicer.mrmlScene is scene
"""
USES_SHAP = """
from Agg2ExpLib.methods.games.shap_import import import_shap
shap = import_shap()
import numpy as np
values = shap.KernelExplainer(lambda kept: kept @ [1.0, 2.0, 3.0], np.zeros((1, 3))).shap_values(np.ones((1, 3)), silent=True)
assert np.allclose(values, [[1.0, 2.0, 3.0]])
assert shap.Explanation(np.ones((2, 3)))[0].shape == (3,)
"""
UNCHANGED = """
import sys
import slicer as again, slicer.util
assert again.app == "the application" and slicer.util.scene() is again.mrmlScene
assert not hasattr(again, "Alias")
assert not [entry for entry in sys.path if "agg2exp_shap_slicer" in entry]
assert not [n for n, m in sys.modules.items() if n.startswith("slicer") and "agg2exp_shap_slicer" in str(m.__file__)]
"""


@pytest.fixture
def slicers_folder(tmp_path):
    """A package of the shape of 3D Slicer's."""
    for name, text in STAND_IN.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(program, folder, *places):
    """Run the program, which is kept in ``folder``, in a process that has loaded neither shap nor a ``slicer``."""
    path = os.pathsep.join([str(ROOT), *map(str, places)])
    script = folder / "program.py"
    script.write_text(program)
    return subprocess.run(
        [*warm.python(), str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )


@needs_shap
@pytest.mark.parametrize(
    "program",
    [
        USES_SLICER + USES_SHAP + "import slicer as now\nassert now is slicer and now.mrmlScene is scene\n" + UNCHANGED,
        USES_SHAP + USES_SLICER + UNCHANGED,
    ],
    ids=["slicer first", "shap first"],
)
def test_both_work_in_either_order_of_import(slicers_folder, tmp_path_factory, program):
    done = run(program, tmp_path_factory.mktemp("program"), slicers_folder)
    assert done.returncode == 0, done.stderr


@needs_shap
def test_without_3d_slicer_the_name_stays_free(tmp_path):
    program = USES_SHAP + "\nimport importlib.util, sys\nassert 'slicer' not in sys.modules\n"
    program += "spec = importlib.util.find_spec('slicer')\nassert spec is None or 'agg2exp' not in str(spec.origin)\n"
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


@needs_shap
@pytest.mark.skipif(importlib.util.find_spec("slicer") is None, reason="needs slicer-core, 3D Slicer's own package")
@pytest.mark.parametrize("first", ["slicer", "shap"])
def test_the_real_slicer_and_shap_live_together(tmp_path, first):
    scene = "import slicer, vtk\nscene = slicer.vtkMRMLScene()\nassert scene.GetNumberOfNodes() == 0\n"
    node = "scene.AddNode(slicer.vtkMRMLScalarVolumeNode())\nassert scene.GetNumberOfNodes() >= 1\n"
    again = "import slicer as again\nassert again is slicer and not hasattr(again, 'Alias')\n"
    program = (scene + USES_SHAP if first == "slicer" else USES_SHAP + scene) + node + again
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr


@needs_shap
def test_the_child_process_explains_with_shap_where_slicer_is_on_the_path(slicers_folder, tmp_path):
    from small_networks import write_case

    case, model = write_case(tmp_path)
    command = [*warm.python(), str(ROOT / "Agg2ExpLib" / "cli" / "__main__.py"), "explain", str(case), "--model", str(model), "--out",
               str(tmp_path / "out"), "--method", "kernelshap", "--estimator", "shap", "--progress", "json"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(slicers_folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "explanation.json").is_file()


def test_a_missing_shap_is_one_sentence_with_what_to_do(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "shap"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(InputError, match=r"needs shap; run .*shap_import, or use --estimator regression"):
        import_shap()


@needs_shap
def test_a_shap_that_does_not_load_leaves_slicer_alone(slicers_folder, tmp_path):
    broken = tmp_path / "broken"
    (broken / "shap").mkdir(parents=True)
    (broken / "shap" / "__init__.py").write_text("import slicer, nothing_of_this_name\n")
    program = (
        USES_SLICER
        + """
from Agg2ExpLib.methods.games.shap_import import import_shap
from Agg2ExpLib.errors import InputError
try:
    import_shap()
except InputError as error:
    assert "nothing_of_this_name" in str(error), error
else:
    raise AssertionError("a broken shap was taken")
import sys
assert "shap" not in sys.modules
"""
        + UNCHANGED
    )
    done = run(program, broken, broken, slicers_folder)
    assert done.returncode == 0, done.stderr
