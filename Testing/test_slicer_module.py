"""The module that Slicer discovers, with the least of Slicer around it."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "Agg2Exp" / "Agg2Exp.py"
BASES = (
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
)


@pytest.fixture
def logic(monkeypatch):
    slicer, i18n, scripted = (ModuleType(f"slicer{part}") for part in ("", ".i18n", ".ScriptedLoadableModule"))
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    for name in BASES:
        setattr(scripted, name, type(name, (), {}))
    for module in (slicer, i18n, scripted, ModuleType("qt")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = importlib.util.spec_from_file_location("Agg2Exp", MODULE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.Agg2ExpLogic()


def test_the_module_file_defines_what_slicer_looks_for():
    names = {node.name for node in ast.parse(MODULE.read_text()).body if isinstance(node, ast.ClassDef)}
    assert names == {"Agg2Exp", "Agg2ExpWidget", "Agg2ExpLogic", "Agg2ExpTest"}


def test_the_module_file_imports_only_slicer_qt_and_the_library():
    imported = set()
    for node in ast.walk(ast.parse(MODULE.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"Agg2ExpLib", "qt", "slicer"}


def test_the_command_says_everything_that_was_asked_for(logic, tmp_path):
    command = logic.explanationCommand(
        "ct.nii.gz",
        tmp_path,
        model="-odd name",
        method="gradient",
        classes=["heart", "aorta"],
        regions={"effusion": "effusion.nii.gz"},
        device="cpu",
        interpreter="python",
    )
    assert command == [
        "python",
        str(ROOT / "Agg2ExpLib" / "cli.py"),
        "explain",
        str(Path("ct.nii.gz").absolute()),
        f"--out={tmp_path}",
        "--model=-odd name",
        "--method=gradient",
        "--classes=heart,aorta",
        "--device=cpu",
        "--progress=json",
        f"--roi=effusion={Path('effusion.nii.gz').absolute()}",
    ]


def test_what_was_not_asked_for_is_left_to_the_command_line(logic):
    command = logic.explanationCommand("ct.nii.gz", "out", interpreter="python")
    assert [part.partition("=")[0] for part in command[4:]] == ["--out", "--progress"]


def test_the_command_line_takes_the_command_from_any_folder(logic, tmp_path):
    absent = tmp_path / "absent.nii.gz"
    command = logic.explanationCommand(
        absent, tmp_path / "out", classes=["heart"], regions={"spot": "spot.nii.gz"}, interpreter=sys.executable
    )
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("agg2exp: "), done.stderr


def test_without_an_interpreter_the_logic_says_so(logic, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="PythonSlicer is not found"):
        logic.explanationCommand("ct.nii.gz", "out")
