"""``qt`` as PythonQt offers it: one flat module with everything of Qt, and an application that runs already."""

import importlib
import xml.etree.ElementTree as ElementTree

from PySide6 import QtUiTools
from PySide6.QtCore import *
from PySide6.QtCore import QBuffer, QIODevice, QObject
from PySide6.QtGui import *
from PySide6.QtWidgets import *
from PySide6.QtWidgets import QApplication

application = QApplication.instance() or QApplication(["bench"])
application.setOrganizationName("Agg2Exp bench")
application.setApplicationName("Agg2Exp bench")

# Slicer's own Python files ask for a widget's name this way.
QObject.name = property(lambda self: self.objectName())


class QUiLoader(QtUiTools.QUiLoader):
    """Reads what Qt Designer wrote, with the bench's widgets in place of Slicer's."""

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        for name in root.findall("customwidgets/customwidget/class"):
            module = importlib.import_module("ctk" if name.text.startswith("ctk") else "slicer")
            self.registerCustomWidget(getattr(module, name.text))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        buffer = QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        for connection in connections if connections is not None else ():
            _connect(widget, {part.tag: part.text for part in connection if part.tag != "hints"})
        return widget


def _connect(root, wanted):
    """Connect by name: signatures in C++ types of Slicer mean nothing to PySide."""
    sender, receiver = (
        root if wanted[end] == root.objectName() else root.findChild(QObject, wanted[end])
        for end in ("sender", "receiver")
    )
    signal, slot = (wanted[part].partition("(")[0] for part in ("signal", "slot"))
    getattr(sender, signal).connect(getattr(receiver, slot))
