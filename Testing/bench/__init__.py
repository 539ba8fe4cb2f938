"""The bench: what slicer-core lacks of a desktop Slicer, so that the real panel runs and is tested without one.

``qt`` is merged from PySide6; ``ctk`` and the ``qMRML*`` widgets are small Qt widgets with the properties and signals that the
panel uses; Slicer's Python files that are no part of slicer-core have doubles with the same contract. The scene is real.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

DOUBLES = {
    "qt": "Testing.bench.qt_double",
    "ctk": "Testing.bench.ctk_double",
    "SampleData": "Testing.bench.sample_data_double",
    "slicer.i18n": "Testing.bench.i18n_double",
    "slicer.packaging": "Testing.bench.packaging_double",
    "slicer.parameterNodeWrapper": "Testing.bench.parameter_node_double",
    "slicer.ScriptedLoadableModule": "Testing.bench.scripted_module_double",
}


#: Whether the tests run inside a desktop Slicer: Testing/run_in_slicer.py says so. Then nothing is offered, and nothing replaced.
in_slicer = False

#: Names a folder like Base/Python of a Slicer checkout: its files take the place of the doubles, and the same tests must pass.
SOURCE = "SLICER_PYTHON_SOURCE"


#: Slicer's file that reads and writes widgets; PythonQt has properties as attributes.
CONNECTORS = "slicer.parameterNodeWrapper.guiConnectors"


class PropertiesAsAttributes(importlib.machinery.SourceFileLoader):
    """Loads a file for which Qt's properties are attributes, as PythonQt has them."""

    def source_to_code(self, data, path, **options):
        return super().source_to_code(b"from __feature__ import true_property;" + bytes(data), path, **options)

    # What was compiled without the first line must not be taken, nor ours by others.
    def get_data(self, path):
        if path.endswith(".pyc"):
            raise OSError(path)
        return super().get_data(path)

    def _cache_bytecode(self, *_):
        """Keep nothing."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives Slicer's own file where a checkout is named, else a double, for a module that is nowhere else."""

    def find_spec(self, name, path=None, target=None):
        if name == CONNECTORS and os.environ.get(SOURCE):
            place = Path(os.environ[SOURCE], *name.split(".")).with_suffix(".py")
            return importlib.util.spec_from_file_location(name, place, loader=PropertiesAsAttributes(name, str(place)))
        if name not in DOUBLES:
            return None
        return _own_file(name) or importlib.util.spec_from_loader(name, self)

    def create_module(self, spec):
        return importlib.import_module(DOUBLES[spec.name])

    def exec_module(self, module):
        pass


def _own_file(name):
    source = os.environ.get(SOURCE)
    # Packages are never installed by a test, so their double stays.
    if not source or not name.startswith("slicer.") or name == "slicer.packaging":
        return None
    place = Path(source, *name.split("."))
    for file, folders in ((place.with_suffix(".py"), None), (place / "__init__.py", [str(place)])):
        if file.is_file():
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    return None


def offer():
    """Offer the doubles to every import from now on; costs nothing until one is asked for."""
    if in_slicer:
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    # First, because a folder that happens to have the name of one is taken for a package.
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
