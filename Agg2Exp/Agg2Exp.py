"""What 3D Slicer discovers: the module Agg2Exp. Wiring only; the work is in Agg2ExpLib."""

import sys
from pathlib import Path
from typing import Annotated

import slicer
import slicer.util
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

try:
    import Agg2ExpLib
except ModuleNotFoundError:
    # Slicer puts this file's own folder on the path. In a source checkout the library lies beside that folder.
    _CHECKOUT = Path(__file__).resolve().parents[1]
    if not (_CHECKOUT / "Agg2ExpLib" / "__init__.py").is_file():
        raise
    sys.path.append(str(_CHECKOUT))
    import Agg2ExpLib

from Agg2ExpLib.panel import samples, views
from Agg2ExpLib.panel.logic import PanelLogic
from Agg2ExpLib.panel.words.choices import MODES, OWN_OVERLAP, QUICK_LOOK, Method, Overlay, Precision, Reduction

RESOURCES = Path(__file__).resolve().parent / "Resources"
_CHOICES, _OVERLAY = QUICK_LOOK, Overlay()


class Agg2Exp(ScriptedLoadableModule):
    """Title, category and texts that Slicer shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Agg2Exp"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The Agg2Exp contributors"]
        parent.helpText = _(
            "Explains what a 3D segmentation network looked at, voxel by voxel and structure by structure: choose a CT and "
            "press Apply. Research software, not a medical device. To try it, open the sample 'Thorax phantom explained' in the "
            "Sample Data module. Version {version}."
        ).format(version=Agg2ExpLib.__version__)
        parent.acknowledgementText = _(
            "The method is that of Chrabaszcz et al., Aggregated Attributions for Explanatory Analysis of 3D "
            "Segmentation Models, WACV 2025, arXiv 2407.16653."
        )
        # The Sample Data module may be loaded after this one, and there is no layout to add to before the window.
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", views.add_layout)


def registerSampleData():
    """Offer the samples in Slicer's Sample Data module."""
    samples.register(RESOURCES, openSampleInPanel)


def openSampleInPanel(source=None):
    """Show the explained sample in the panel, or only in the scene where there is no window."""
    with slicer.util.tryWithErrorDisplay(_("The sample could not be opened.")):
        if slicer.util.mainWindow():
            slicer.util.selectModule("Agg2Exp")
        widget = getattr(slicer.modules, "Agg2ExpWidget", None)
        logic = widget.logic if widget else Agg2ExpLogic()
        if widget and widget.panel:
            cohort = samples.own_cohort(RESOURCES, logic.settings.results_folder())
            widget.panel.show_sample(logic.sampleFolder(), cohort)
        else:
            logic.openSample()


@parameterNodeWrapper
class Agg2ExpParameterNode:
    """What is saved with a scene. Most of it is bound to a widget of the .ui by the property SlicerParameterName.

    The model and the device come from lists that differ between computers, and structures from the model: these the panel
    keeps itself, and so the options that only some methods have (JSON), the mode of the overlay, and which explanation,
    structure and reference profile are shown.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    inputVolume2: slicer.vtkMRMLScalarVolumeNode
    inputVolume3: slicer.vtkMRMLScalarVolumeNode
    inputVolume4: slicer.vtkMRMLScalarVolumeNode
    extraRegions: slicer.vtkMRMLSegmentationNode
    model: str = _CHOICES.model
    allStructures: bool = _CHOICES.structures is None
    structures: list[str]
    method: Method = Method[_CHOICES.method]
    samples: Annotated[int, WithinRange(1, 100_000)] = _CHOICES.samples
    methodOptions: str = ""
    reduction: Reduction = Reduction[_CHOICES.reduction]
    seed: Annotated[int, WithinRange(0, 2_147_483_647)] = _CHOICES.seed
    precision: Precision = Precision[_CHOICES.precision]
    device: str = _CHOICES.device
    overlap: Annotated[float, WithinRange(OWN_OVERLAP, 0.9)] = OWN_OVERLAP
    overlay: Annotated[str, Choice(MODES)] = _OVERLAY.mode
    hideWeakest: Annotated[float, WithinRange(0.0, 99.5)] = _OVERLAY.percentile
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = _OVERLAY.opacity
    onlyInsideSegments: bool = _OVERLAY.masked
    colourSegments: bool = _OVERLAY.coloured
    volumeRendering: bool = _OVERLAY.volume_rendering
    explanation: str = ""
    structure: str = ""
    profile: str = ""
    falseAlarms: Annotated[float, WithinRange(0.1, 50.0)] = 5.0
    colourByAnomaly: bool = False


class Agg2ExpWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: its widgets from the .ui, what they do from Agg2ExpLib."""

    # Setting up may fail; Slicer cleans up all the same.
    panel = None

    def __init__(self, parent=None):
        # A widget without a parent is set up within this call.
        VTKObservationMixin.__init__(self)
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        """Load the .ui and follow the scene."""
        from Agg2ExpLib.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Agg2Exp.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.logic = Agg2ExpLogic()
        self.panel = Panel(self.ui, self.logic.tasks, self.logic.runner)
        self.panel.reference.offer(*samples.reference(RESOURCES))
        uiWidget.setMRMLScene(slicer.mrmlScene)
        scene = slicer.mrmlScene
        self.addObserver(scene, slicer.vtkMRMLScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, slicer.vtkMRMLScene.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, slicer.vtkMRMLScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, slicer.vtkMRMLScene.EndImportEvent, self.onSceneEnd)
        self.initializeParameterNode()

    def cleanup(self):
        """Stop what runs: the module is unloaded, or Slicer ends."""
        if self.panel:
            self.setParameterNode(None)
            self.panel.close()
        self.removeObservers()

    def enter(self):
        """Make sure that there is a parameter node when the module is opened."""
        if self._parameterNode is None:
            self.initializeParameterNode()

    def onSceneStartClose(self, caller=None, event=None):
        """Let go of a scene that is being closed."""
        self.setParameterNode(None)
        self.panel.on_scene_closing()

    def onSceneStartImport(self, caller=None, event=None):
        """Wait until the scene is complete: lists that fill themselves meanwhile are not the user's choice."""
        self.setParameterNode(None)

    def onSceneEnd(self, caller=None, event=None):
        """Show what the closed or loaded scene says, whether the module is open or not: its results are views too."""
        self.initializeParameterNode()

    def initializeParameterNode(self):
        """Follow the scene's parameter node; its first CT is taken when none was chosen."""
        node = self.logic.getParameterNode()
        if node.inputVolume is None:
            node.inputVolume = self.logic.firstVolume()
        self.setParameterNode(node)

    def setParameterNode(self, node):
        """Bind the widgets to a parameter node, or to none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, "ModifiedEvent", self.onParameterNodeModified)
        self._parameterNode = node
        if node is not None:
            self._parameterNodeGuiTag = node.connectGui(self.ui)
            self.addObserver(node, "ModifiedEvent", self.onParameterNodeModified)
        self.panel.attach(node)

    def onParameterNodeModified(self, caller=None, event=None):
        """Follow a widget, or a script that has changed a parameter."""
        self.panel.on_parameters()

    def onReload(self):
        """Reload the library together with the module."""
        self.cleanup()
        for name in [name for name in sys.modules if name.partition(".")[0] == "Agg2ExpLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class Agg2ExpLogic(ScriptedLoadableModuleLogic, PanelLogic):
    """What the module can do without a window; its methods are those of Agg2ExpLib.panel.logic.PanelLogic."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        PanelLogic.__init__(self)

    def sampleFolder(self):
        """Return the Explanation folder of the sample, copied to the folder of results."""
        return samples.own_copy(RESOURCES, self.settings.results_folder())

    def openSample(self):
        """Put the explained sample into the scene; returns what :meth:`explain` returns."""
        return self.openExplanation(self.sampleFolder())

    def getParameterNode(self):
        """Return the scene's parameter node; what cannot be read in it, as in a scene from elsewhere, is as new."""
        node = ScriptedLoadableModuleLogic.getParameterNode(self)
        try:
            return Agg2ExpParameterNode(node)
        except (ValueError, TypeError, KeyError):
            for name in Agg2ExpParameterNode.allParameters:
                node.UnsetParameter(name)
            return Agg2ExpParameterNode(node)


class Agg2ExpTest(ScriptedLoadableModuleTest):
    """What Slicer's own test runner runs."""

    def runTest(self):
        """Run all tests of the module."""
        self.setUp()
        self.test_commandNamesExistingProgram()
        self.test_parameterNodeKeepsChoices()

    def test_commandNamesExistingProgram(self):
        """The child process runs a program that is there."""
        from Agg2ExpLib.panel.compute.interpreter import program

        self.assertTrue(Path(program()).is_file())

    def test_parameterNodeKeepsChoices(self):
        """What is written to the parameter node can be read again."""
        node = Agg2ExpLogic().getParameterNode()
        node.structure = "heart"
        self.assertEqual(Agg2ExpLogic().getParameterNode().structure, "heart")
