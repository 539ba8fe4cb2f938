"""What 3D Slicer discovers: the module Agg2Exp. Wiring only; the work is in Agg2ExpLib."""

import sys
from pathlib import Path

import slicer
import slicer.util
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

try:
    import Agg2ExpLib
except ModuleNotFoundError:
    # Slicer puts this file's own folder on the path. In a source checkout the library lies beside that folder.
    _CHECKOUT = Path(__file__).resolve().parents[1]
    if not (_CHECKOUT / "Agg2ExpLib" / "__init__.py").is_file():
        raise
    sys.path.append(str(_CHECKOUT))
    import Agg2ExpLib

from Agg2ExpLib.panel import samples
from Agg2ExpLib.panel.logic import PanelLogic

RESOURCES = Path(__file__).resolve().parent / "Resources"


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
        # The Sample Data module may be loaded after this one.
        slicer.app.connect("startupCompleted()", registerSampleData)


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
            widget.panel.presenter.show_folder(logic.sampleFolder())
        else:
            logic.openSample()


@parameterNodeWrapper
class Agg2ExpParameterNode:
    """What is saved with a scene: the chosen nodes, and the panel's choices as JSON texts (panel/memory.py)."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    extraRegions: slicer.vtkMRMLSegmentationNode
    choices: str = ""
    overlay: str = ""
    explanation: str = ""
    structure: str = ""
    profile: str = ""


class Agg2ExpWidget(ScriptedLoadableModuleWidget):
    """The panel of Agg2ExpLib, in Slicer's module panel."""

    # Setting up may fail; Slicer cleans up all the same.
    panel = None

    def setup(self):
        """Build the panel."""
        from Agg2ExpLib.panel.panel import Panel

        ScriptedLoadableModuleWidget.setup(self)
        self.logic = Agg2ExpLogic()
        self.panel = Panel(self.layout, self.logic.workbench, self.logic.store, self.logic.getParameterNode)

    def cleanup(self):
        """Stop what runs: the module is unloaded, or Slicer ends."""
        if self.panel:
            self.panel.close()

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
        return samples.own_copy(RESOURCES, self.store.results_folder())

    def openSample(self):
        """Put the explained sample into the scene; returns what :meth:`explain` returns."""
        return self.openExplanation(self.sampleFolder())

    def getParameterNode(self):
        """Return the scene's parameter node."""
        return Agg2ExpParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))


class Agg2ExpTest(ScriptedLoadableModuleTest):
    """What Slicer's own test runner runs."""

    def runTest(self):
        """Run all tests of the module."""
        self.setUp()
        self.test_commandNamesExistingProgram()
        self.test_parameterNodeKeepsChoices()

    def test_commandNamesExistingProgram(self):
        """The command of the child process names a program that is there."""
        from Agg2ExpLib.panel import commands

        command = commands.explain_command("python", "ct.nii.gz", "explanation", {"samples": 3})
        self.assertTrue(Path(command[1]).is_file())
        self.assertIn("--progress=json", command)

    def test_parameterNodeKeepsChoices(self):
        """What is written to the parameter node can be read again."""
        node = Agg2ExpLogic().getParameterNode()
        node.structure = "heart"
        self.assertEqual(Agg2ExpLogic().getParameterNode().structure, "heart")
