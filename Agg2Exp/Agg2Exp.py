"""What 3D Slicer discovers: the module Agg2Exp. Wiring only; the work is in Agg2ExpLib."""

import sys
from pathlib import Path

import slicer
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

from Agg2ExpLib.panel.logic import PanelLogic


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
            "press Apply. Research software, not a medical device. Version {version}."
        ).format(version=Agg2ExpLib.__version__)
        parent.acknowledgementText = _(
            "The method is that of Chrabaszcz et al., Aggregated Attributions for Explanatory Analysis of 3D "
            "Segmentation Models, WACV 2025, arXiv 2407.16653."
        )


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
    anomaly: str = ""


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
