"""The walls of the house: which room may import which, and which packages each half must do without."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "Agg2ExpLib"

# Ground floor first. A room imports only rooms of lower floors; rooms on one floor do not know each other.
FLOORS = (
    {"errors", "snomed"},
    {"progress", "anatomy", "agreement", "storage", "task_file"},
    {"volume"},
    {"regions"},
    {"models", "importance", "convolution"},
    {"device"},
    {"case"},
    {"methods"},
    {"quality", "request"},
    {"explanation"},
    {"figures", "report", "scene"},
    {"comparison", "export"},
    {"phantom", "training", "environment", "estimate", "whatif", "respond", "interactions"},
    {"repeating", "needs"},
    {"cohort"},
    {"studies", "instances"},
    {"panel"},
    {"demo", "benchmark"},
    {"cli"},
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
# The ground truth must not depend on what it judges.
ONLY = {"phantom": {"errors", "progress", "anatomy", "storage", "volume"}}

COMPUTING = ("torch", "monai", "captum", "shap")
SLICER = ("slicer", "vtk", "qt", "ctk", "PythonQt", "PySide6")
# What Slicer's own process may import.
READING = (
    "errors",
    "progress",
    "anatomy",
    "storage",
    "volume",
    "regions",
    "importance",
    "methods",
    "request",
    "explanation",
    "figures",
    "report",
    "export",
    "export.dicom",
    "export.page",
    "export.notebook",
    "models.card",
)
PUBLIC = ("Volume", "read_volume", "Explanation", "Request", "request_of")


@functools.cache
def modules():
    """Return dotted names inside the library -> file; the library itself is the empty name."""
    names = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def room_of(name):
    """Return the room of a module; ``volume_grid`` is a part of ``volume``."""
    first = name.partition(".")[0]
    return first if first in FLOOR_OF else first.partition("_")[0]


@functools.cache
def imports_of(path):
    """Return the full names that a file imports anywhere, also inside functions and for types only."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return tuple(names)


def imported_rooms(path):
    """Return the rooms that a file imports."""
    inside = [name.removeprefix("Agg2ExpLib.") for name in imports_of(path) if name.startswith("Agg2ExpLib.")]
    return {room_of(name) for name in inside if name in modules() or "." in name}


def run_with_blocked(packages, program):
    """Run a program in a process of its own in which some packages cannot be imported."""
    guard = f"""
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(packages)!r}:
            raise ModuleNotFoundError("the wall: " + name + " is imported", name=name)

sys.meta_path.insert(0, Wall())
sys.path.insert(0, {str(ROOT)!r})
"""
    return subprocess.run([sys.executable, "-c", guard + program], capture_output=True, text=True, check=False)


def test_the_tree_is_seen():
    assert {"", "volume", "errors"} <= set(modules())


def test_every_module_belongs_to_a_room():
    homeless = [name for name in modules() if name and room_of(name) not in FLOOR_OF]
    assert homeless == [], "give each a floor in FLOORS"


def test_a_room_imports_only_rooms_below_it():
    wrong = []
    for name, path in modules().items():
        room = room_of(name)
        others = imported_rooms(path) - {room}
        above = {other for other in others if FLOOR_OF[other] >= FLOOR_OF[room]} if name else set()
        wrong += [f"{name} imports {other}" for other in sorted(above | (others - ONLY.get(room, others)))]
    assert wrong == []


def test_importing_the_library_imports_no_other_package():
    program = """
before = set(sys.modules)
import Agg2ExpLib
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names)))
"""
    done = run_with_blocked((), program)
    assert (done.stdout.split(), done.stderr) == (["Agg2ExpLib"], "")


def test_the_reading_half_imports_without_torch_and_without_slicer():
    """Each module comes first once: one that can be imported only after another is found as well."""
    assert set(READING) <= set(modules())
    program = f"""
import importlib
for name in {READING!r}:
    for known in [one for one in sys.modules if one.partition(".")[0] == "Agg2ExpLib"]:
        del sys.modules[known]
    importlib.import_module("Agg2ExpLib." + name)
import Agg2ExpLib
for name in {PUBLIC!r}:
    getattr(Agg2ExpLib, name)
"""
    done = run_with_blocked((*COMPUTING, *SLICER), program)
    assert done.returncode == 0, done.stderr


def test_the_computing_half_imports_without_slicer():
    lines = "\n".join(f"import Agg2ExpLib.{name}" for name in modules() if name and room_of(name) != "panel")
    done = run_with_blocked(SLICER, lines)
    assert done.returncode == 0, done.stderr


def test_the_panel_imports_without_torch():
    names = [name for name in modules() if room_of(name) == "panel"]
    assert "panel.panel" in names
    lines = "\n".join(f"import Agg2ExpLib.{name}" for name in names)
    done = run_with_blocked(COMPUTING, f"from Testing import bench\nbench.offer()\n{lines}")
    assert done.returncode == 0, done.stderr


def test_the_panel_names_only_slicers_qt_side_and_what_slicer_brings():
    files = [path for name, path in modules().items() if room_of(name) == "panel"]
    named = {name.partition(".")[0] for path in files for name in imports_of(path)}
    others = named - set(sys.stdlib_module_names) - {"Agg2ExpLib", "qt", "ctk", "slicer", "numpy"}
    # torch comes by an extension, samples go to a module of Slicer, pip reads requirements, a data frame is made when asked for.
    assert others == {"PyTorchUtils", "SampleData", "pandas", "pip"}


def test_help_and_mistakes_on_the_command_line_need_not_wait_for_torch():
    done = run_with_blocked(COMPUTING, "from Agg2ExpLib.cli import main; main(['--version'])")
    assert done.returncode == 0, done.stderr


def test_the_wall_itself_stops_an_import():
    done = run_with_blocked(("json",), "import Agg2ExpLib.errors, json.decoder")
    assert done.returncode != 0
