"""Puts into the real ``slicer`` what only its desktop has: the application, and the ``qMRML*`` widgets."""

import os
from pathlib import Path
from types import SimpleNamespace

import slicer
from PySide6.QtCore import Property, QSettings, Signal
from PySide6.QtWidgets import QApplication, QComboBox, QWidget
from shiboken6 import isValid


class qMRMLWidget(QWidget):
    """Tells the widgets within it of the scene, as the .ui connects them."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(QComboBox):
    """Lists the nodes of some classes of a scene."""

    currentNodeChanged = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._types, self._none = None, [], False
        self._filter = SortFilterProxyModel(self)
        self._children = True
        self.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.currentIndexChanged.connect(lambda index: self.currentNodeChanged.emit())

    def setMRMLScene(self, scene):
        self._scene = scene
        for event in ("NodeAddedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent"):
            scene.AddObserver(getattr(slicer.vtkMRMLScene, event), lambda *_: self._refill())
        self._refill()

    def sortFilterProxyModel(self):
        return self._filter

    def currentNode(self):
        identifier = self.currentData()
        return self._scene.GetNodeByID(identifier) if identifier and self._scene else None

    def setCurrentNode(self, node):
        index = self.findData(node.GetID()) if node else (0 if self._none else -1)
        self.setCurrentIndex(index)

    def _refill(self):
        # A scene outlives the widgets that listen to it; as in Slicer, a deleted one no longer does.
        if not isValid(self):
            return
        before = self.currentData()
        nodes = [
            node
            for kind in self._types
            for node in slicer.util.getNodesByClass(kind)
            if self._children or node.GetClassName() == kind
        ]
        nodes = [
            node for node in nodes if not node.GetHideFromEditors() and node.GetID() not in self._filter.hiddenNodeIDs
        ]
        self.blockSignals(True)
        self.clear()
        if self._none:
            self.addItem("None", "")
        for node in nodes:
            self.addItem(node.GetName(), node.GetID())
        index = self.findData(before) if before else -1
        self.setCurrentIndex(index if index >= 0 else (0 if self.count() else -1))
        self.blockSignals(False)
        if self.currentData() != before:
            self.currentNodeChanged.emit()

    def _set_types(self, types):
        self._types = list(types)
        if self._scene:
            self._refill()

    def _set_none(self, none):
        self._none = bool(none)
        if self._scene:
            self._refill()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)

    def _set_children(self, shown):
        self._children = bool(shown)

    def _leave(self, _):
        """Menus to add, remove and rename nodes are not part of the bench."""

    noneEnabled = Property(bool, lambda self: self._none, _set_none)
    showChildNodeTypes = Property(bool, lambda self: self._children, _set_children)
    addEnabled = removeEnabled = renameEnabled = Property(bool, lambda self: False, _leave)


class SortFilterProxyModel:
    """What the box does not list although it has the right class."""

    def __init__(self, box):
        self._box, self._hidden = box, []

    @property
    def hiddenNodeIDs(self):
        return self._hidden

    @hiddenNodeIDs.setter
    def hiddenNodeIDs(self, identifiers):
        self._hidden = list(identifiers)
        self._box._refill()


class ModuleManager:
    """Nothing is ever unloaded on the bench."""

    def connect(self, signature, slot):
        pass

    disconnect = connect


def _bare_widget(name):
    """Slicer's own files name many widgets; a bare one is enough to name."""
    if not name.startswith(("qMRML", "qSlicer")):
        raise AttributeError(f"module 'slicer' has no attribute {name!r}")
    setattr(slicer, name, type(name, (QWidget,), {}))
    return getattr(slicer, name)


class Application:
    """``slicer.app``."""

    def __init__(self, folder):
        self.temporaryPath = str(folder)
        self._settings = QSettings(str(Path(folder) / "bench.ini"), QSettings.IniFormat)

    def userSettings(self):
        return self._settings

    settings = userSettings

    def pauseRender(self):
        """Nothing is drawn on the bench."""

    def resumeRender(self):
        """As above."""

    def layoutManager(self):
        return None

    def applicationLogic(self):
        return None

    def translate(self, context, text):
        return text

    def testingEnabled(self):
        return True

    def moduleManager(self):
        return ModuleManager()

    def connect(self, signature, slot):
        """The bench has started long ago: nothing of the application's own is signalled."""

    def topLevelWidgets(self):
        return []

    def processEvents(self):
        QApplication.processEvents()


def install(folder):
    """Give ``slicer`` an application, its widgets and an empty scene; returns the scene."""
    import slicer.util

    from Agg2ExpLib.scene import new_scene

    slicer.app = Application(folder)
    slicer.__getattr__ = _bare_widget
    slicer.qMRMLNodeComboBox, slicer.qMRMLWidget = qMRMLNodeComboBox, qMRMLWidget
    slicer.mrmlScene = new_scene()
    slicer.modules = getattr(slicer, "modules", None) or SimpleNamespace()
    slicer.util.startupEnvironment = lambda: dict(os.environ)
    return slicer.mrmlScene
