"""The extension for 3D Slicer: what CMake builds, what the catalogue is told, and that both say the same."""

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from Agg2ExpLib.models import bundled_models

ROOT = Path(__file__).resolve().parents[1]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
ENTRY = ROOT / "Agg2Exp.json"

# Slicer's own macro does more; where each file goes is all that matters here.
STUB_OF_SLICER = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/empty.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/empty.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/empty.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/qt-scripted-modules)
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  set(folder ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
  if(MY_WITH_SUBDIR)
    get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(folder ${folder}/${name})
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    configure_file(${CMAKE_CURRENT_SOURCE_DIR}/${file} ${folder}/${file} COPYONLY)
  endforeach()
endmacro()
"""

# Of the schema v1.0.2 for entries of the Extensions Index.
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
KINDS = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "dicom_support_rule": str, "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip
REQUIRED = {"$schema", "category", "scm_url"}


def entry():
    return json.loads(ENTRY.read_text(encoding="utf-8"))


def told(name):
    """Return a variable of CMakeLists.txt as the Extensions Index reads it: one quoted text on one line."""
    found = re.findall(rf'set\s*\(EXTENSION_{name}\s*"([^"\n]+)"[ ]*\)', CMAKE)
    assert len(found) == 1, f'CMakeLists.txt has no plain set(EXTENSION_{name} "...")'
    return found[0]


def test_the_catalogue_entry_has_the_keys_of_the_schema_and_no_others():
    found = entry()
    assert REQUIRED <= set(found) <= set(KINDS)
    assert found["$schema"] == SCHEMA
    assert [key for key, value in found.items() if type(value) is not KINDS[key]] == []
    assert found["tier"] in range(1, 6)
    assert all(isinstance(one, str) for one in found["build_dependencies"])
    assert b"\r" not in ENTRY.read_bytes()


def test_the_category_is_one_that_the_index_knows_and_that_the_module_is_filed_under():
    assert entry()["category"] == "Segmentation"
    assert '"Segmentation")]' in (ROOT / "Agg2Exp" / "Agg2Exp.py").read_text(encoding="utf-8")


def test_entry_project_and_repository_have_the_names_that_the_index_asks_for():
    assert re.findall(r"project\s*\(\s*([^\s\)]+)", CMAKE) == [ENTRY.stem] == ["Agg2Exp"]
    assert not ENTRY.stem.lower().startswith("slicer")
    url = entry()["scm_url"]
    assert url.startswith("https://")
    assert url.rpartition("/")[2].removesuffix(".git") == f"Slicer{ENTRY.stem}"


def test_entry_and_cmake_name_the_same_dependencies():
    assert told("DEPENDS").split() == entry()["build_dependencies"] == ["PyTorch"]


def raw_files():
    """Return the files that icon and screenshot addresses point to, relative to the repository."""
    owner_and_name = entry()["scm_url"].removeprefix("https://github.com/").removesuffix(".git")
    start = f"https://raw.githubusercontent.com/{owner_and_name}/{entry()['scm_revision']}/"
    addresses = [told("ICONURL"), *told("SCREENSHOTURLS").split()]
    assert [one for one in addresses if not one.startswith(start)] == []
    return [one.removeprefix(start) for one in addresses]


def test_icon_and_screenshots_are_raw_addresses_of_pictures_in_this_repository():
    files = raw_files()
    assert len(files) >= 2
    assert [name for name in files if not (ROOT / name).is_file() or not name.endswith(".png")] == []


def test_the_icon_has_128_pixels_and_is_the_modules_own():
    icon = ROOT / raw_files()[0]
    assert icon == ROOT / "Agg2Exp" / "Resources" / "Icons" / "Agg2Exp.png"
    assert struct.unpack(">II", icon.read_bytes()[16:24]) == (128, 128)


def test_the_description_is_short_and_names_the_licence():
    assert len(told("DESCRIPTION")) < 300
    assert "Apache-2.0" in told("DESCRIPTION")
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")[:500]
    assert told("HOMEPAGE").startswith(entry()["scm_url"].removesuffix(".git"))


def test_a_checkout_stays_far_below_what_the_index_takes():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not names:
        pytest.skip("not a checkout of git")
    assert sum((ROOT / name).stat().st_size for name in names.split("\0") if name and (ROOT / name).is_file()) < 60e6


def configure(build, *options):
    # The languages' compilers are not the matter here, and may be absent.
    languages = [f"-DCMAKE_{language}_COMPILER_WORKS=1" for language in ("C", "CXX")]
    command = ["cmake", "-S", ROOT, "-B", build, *languages, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("c++") and shutil.which("cc")), reason="needs cmake and a compiler"
)


@needs_cmake
def test_cmake_without_slicer_says_in_one_sentence_what_to_give(tmp_path):
    done = configure(tmp_path)
    assert done.returncode
    assert done.stderr.count("CMake Error") == 1
    words = " ".join(done.stderr.split())
    assert "3D Slicer was not found; give -DSlicer_DIR=" in words
    assert "SlicerConfig.cmake" in words


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The extension as a build, and with Slicer an installed extension, lays it out."""
    folder = tmp_path_factory.mktemp("slicer")
    (folder / "SlicerConfig.cmake").write_text(STUB_OF_SLICER)
    (folder / "empty.cmake").touch()
    build = folder / "build"
    done = configure(build, f"-DSlicer_DIR={folder}", "-DBUILD_TESTING=OFF")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
    return build / "lib" / "qt-scripted-modules"


def contents(folder):
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in there if "__pycache__" not in name and not name.endswith(("CMakeLists.txt", ".gitkeep"))}


@needs_cmake
def test_the_extension_holds_every_file_of_the_module_the_library_and_the_models_and_no_other(built):
    expected = contents(ROOT / "Agg2Exp")
    expected |= {f"Agg2ExpLib/{name}" for name in contents(ROOT / "Agg2ExpLib")}
    expected |= {f"Agg2ExpLib/Resources/Models/{name}" for name in contents(ROOT / "Resources" / "Models")}
    assert contents(built) == expected
    assert "Resources/Icons/Agg2Exp.png" in expected
    assert any(name.endswith(".safetensors") for name in expected)


def run_in(folder, program):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@needs_cmake
def test_the_library_of_the_extension_finds_its_own_models(built):
    program = "from Agg2ExpLib.models import bundled_models; print(*(p.resolve() for p in bundled_models().values()))"
    inside = built.resolve() / "Agg2ExpLib" / "Resources" / "Models"
    assert run_in(built, program).split() == [str(inside / name) for name in bundled_models()]


@needs_cmake
def test_the_sample_of_the_extension_is_complete(built):
    program = """
from pathlib import Path
from Agg2ExpLib.explanation import Explanation
from Agg2ExpLib.panel.samples import FOLDER
print(*Explanation.load(Path("Resources") / FOLDER).explained)
"""
    assert "heart" in run_in(built, program).split()
