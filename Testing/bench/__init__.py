"""The bench: what slicer-core lacks of a desktop Slicer, so that the real panel runs and is tested without one.

``qt`` is merged from PySide6; ``ctk`` and the ``qMRML*`` widgets are small Qt widgets with the properties and signals that the
panel uses; Slicer's Python files that are no part of slicer-core have doubles with the same contract. The scene is real.
"""

import importlib.abc
import importlib.util
import os
import sys

DOUBLES = {
    "qt": "Testing.bench.qt_double",
    "ctk": "Testing.bench.ctk_double",
    "slicer.i18n": "Testing.bench.i18n_double",
    "slicer.packaging": "Testing.bench.packaging_double",
    "slicer.parameterNodeWrapper": "Testing.bench.parameter_node_double",
    "slicer.ScriptedLoadableModule": "Testing.bench.scripted_module_double",
}


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a double for a module that is nowhere else: asked last, so that the real one always wins."""

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in DOUBLES else None

    def create_module(self, spec):
        return importlib.import_module(DOUBLES[spec.name])

    def exec_module(self, module):
        pass


def offer():
    """Offer the doubles to every import from now on; costs nothing until one is asked for."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
