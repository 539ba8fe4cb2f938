"""What 3D Slicer discovers: the module Agg2Exp. Wiring only; the work is in Agg2ExpLib.

This version is used from the command line. The module says how, and its logic builds the command of the child process.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import qt
from slicer.i18n import tr as _
from slicer.i18n import translate
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


class Agg2Exp(ScriptedLoadableModule):
    """Title, category and texts that Slicer shows."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "Agg2Exp"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The Agg2Exp contributors"]
        parent.helpText = _(
            "Explains what a 3D segmentation network looked at, voxel by voxel and structure by structure."
        )
        parent.acknowledgementText = _(
            "The method is that of Chrabaszcz et al., Aggregated Attributions for Explanatory Analysis of 3D "
            "Segmentation Models, WACV 2025, arXiv 2407.16653."
        )


class Agg2ExpWidget(ScriptedLoadableModuleWidget):
    """One label that says how this version is used."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = Agg2ExpLogic()
        label = qt.QLabel(
            _(
                "Agg2Exp {version} is used from the command line:\n\nagg2exp explain CT --out FOLDER\n\n"
                "It writes prediction.nii.gz and attributions/*.nii.gz, which Slicer opens as volumes."
            ).format(version=Agg2ExpLib.__version__)
        )
        label.wordWrap = True
        label.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self.layout.addWidget(label)
        self.layout.addStretch(1)

    def onReload(self):
        """Reload the library together with the module."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "Agg2ExpLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class Agg2ExpLogic(ScriptedLoadableModuleLogic):
    """What the module can do without a window."""

    def explanationCommand(
        self,
        imagePath: str | Path,
        outputFolder: str | Path,
        model: str | None = None,
        method: str | None = None,
        classes: Sequence[str] | None = None,
        regions: Mapping[str, str | Path] | None = None,
        device: str | None = None,
        interpreter: str | Path | None = None,
    ) -> list[str]:
        """Return the command line of the child process that explains one scan and reports JSON lines.

        Parameters
        ----------
        imagePath, outputFolder
            The scan, and the Explanation folder to write.
        model, method, classes, device
            As the options of ``agg2exp explain``; ``None`` leaves its default.
        regions
            Extra regions: name -> mask file.
        interpreter
            Python that has the packages; ``None`` is the PythonSlicer on the path.

        Raises
        ------
        RuntimeError
            When no interpreter is given and this Slicer has no PythonSlicer.
        """
        python = interpreter or shutil.which("PythonSlicer")
        if not python:
            raise RuntimeError(_("PythonSlicer is not found; name the Python interpreter that is to run Agg2Exp."))
        options = {
            "out": Path(outputFolder).absolute(),
            "model": model,
            "method": method,
            "classes": ",".join(classes) if classes else None,
            "device": device,
            "progress": "json",
        }
        program = Path(Agg2ExpLib.__file__).resolve().with_name("cli.py")
        command = [str(python), str(program), "explain", str(Path(imagePath).absolute())]
        command += [f"--{name}={value}" for name, value in options.items() if value is not None]
        return command + [f"--roi={name}={Path(file).absolute()}" for name, file in (regions or {}).items()]


class Agg2ExpTest(ScriptedLoadableModuleTest):
    """What Slicer's own test runner runs."""

    def runTest(self):
        """Run all tests of the module."""
        self.setUp()
        self.test_commandNamesExistingProgram()

    def test_commandNamesExistingProgram(self):
        """The command of the child process names a program that is there."""
        command = Agg2ExpLogic().explanationCommand("ct.nii.gz", "explanation", interpreter="python")
        self.assertTrue(Path(command[1]).is_file())
        self.assertIn("--progress=json", command)
