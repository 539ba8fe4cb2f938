"""The frame of the repository: lists that must equal the tree, versions that must agree."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import Agg2ExpLib

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "Agg2ExpLib"
NOT_OURS = {".git", ".venv", "build", "dist", "demo", "runs"}
TEXT_SUFFIXES = {".py", ".toml", ".txt", ".md", ".cff", ".json", ".csv", ".yml", ".yaml", ".ui", ".cmake", ".cfg", ""}


def files_of_the_tree():
    for path in sorted(ROOT.rglob("*")):
        first = path.relative_to(ROOT).parts[0]
        if (
            path.is_file()
            and first not in NOT_OURS
            and not first.endswith("_cache")
            and "__pycache__" not in path.parts
        ):
            yield path


def listed_in_cmake(folder, keyword):
    text = (folder / "CMakeLists.txt").read_text()
    found = re.search(rf"^\s*{keyword}\n((?:\s+[\w./${{}}-]+\.\w+\n)+)", text, re.MULTILINE)
    assert found, f"{folder.name}/CMakeLists.txt has no {keyword} list"
    return found[1].replace("${MODULE_NAME}", folder.name).split()


@pytest.mark.parametrize("folder", ["Agg2Exp", "Agg2ExpLib"])
def test_cmake_lists_exactly_the_python_files_of_the_tree(folder):
    folder = ROOT / folder
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    listed = listed_in_cmake(folder, "SCRIPTS")
    lines = "\n".join(f"    {name}" for name in there)
    assert listed == there, f"the SCRIPTS of {folder.name}/CMakeLists.txt should be:\n{lines}\n"


def test_cmake_lists_exactly_the_resources_of_the_module():
    folder = ROOT / "Agg2Exp"
    there = sorted(path.relative_to(folder).as_posix() for path in (folder / "Resources").rglob("*") if path.is_file())
    listed = listed_in_cmake(folder, "RESOURCES")
    lines = "\n".join(f"    {name}" for name in there)
    assert listed == there, f"the RESOURCES of Agg2Exp/CMakeLists.txt should be:\n{lines}\n"


def test_every_folder_of_the_library_with_python_files_is_a_package():
    folders = {path.parent for path in LIBRARY.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_citation_names_the_version_of_the_library():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [Agg2ExpLib.__version__]


def test_the_project_file_names_no_version_of_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "Agg2ExpLib/__init__.py"


def test_every_direct_dependency_has_a_constraint():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {
        line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    }
    # pytest-xdist talks to its workers through execnet.
    assert {re.match(r"[\w-]+", item)[0] for item in wanted} | {"execnet"} == pinned


def test_text_files_end_their_lines_as_unix_does():
    texts = [path for path in files_of_the_tree() if path.suffix in TEXT_SUFFIXES]
    assert LIBRARY / "__init__.py" in texts
    assert [path for path in texts if b"\r\n" in path.read_bytes()] == []


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_alone_lists_every_target():
    shown = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {"demo", "test", "benchmark"} <= set(phony)
    assert re.findall(r"^  (\w+) +\S", shown, re.MULTILINE) == phony
