"""The main job on what the project brings along: the bundled demo model and a generated CT with two findings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from Agg2ExpLib.progress import Progress

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation

#: Patient of the demo, never trained or validated on: cohorts of the demo model are seeds 1 to 3.
DEMO_SEED, DEMO_INDEX, DEMO_SPACING = 2024, 0, 2.0
DEMO_FINDINGS = ("pleural_effusion:0.45:right", "nodule:0.6:left:lung_upper_lobe_left")
DEMO_MODEL = "thorax-phantom"
#: Structures whose bars and slices the demo draws: one that is looked at itself, one that is found by its surroundings.
DEMO_DRAWN = ("heart", "trachea")


def run_demo(out: Path, *, overwrite: bool = False, progress: Progress | None = None) -> str:
    """Generate the CT, explain it, draw it, and return the text that says what was found and where the files are.

    Raises
    ------
    OutputError
        ``out`` cannot be written, or holds an earlier demo and ``overwrite`` is false.
    """
    from Agg2ExpLib.explanation import explain
    from Agg2ExpLib.phantom import Finding, write_phantoms
    from Agg2ExpLib.report import describe
    from Agg2ExpLib.request import request_of
    from Agg2ExpLib.scene.export import write_all

    findings = [Finding.parse(text) for text in DEMO_FINDINGS]
    case = write_phantoms(out / "phantom", 1, DEMO_SEED, DEMO_SPACING, findings, first=DEMO_INDEX, progress=progress)[0]
    regions = {file.name.removesuffix(".nii.gz"): file for file in sorted((case / "findings").glob("*.nii.gz"))}
    explanation = explain(
        case / "ct.nii.gz",
        DEMO_MODEL,
        out / "explanation",
        request_of("smoothgrad", samples=2),
        regions=dict(regions),
        overwrite=overwrite,
        progress=progress,
    )
    drawn = draw_demo(explanation, out / "figures", progress=progress)
    seen = write_all(explanation, out, overwrite=overwrite, progress=progress)
    truth = f"{case}/\n  ct.nii.gz, segmentation.nii.gz, findings/     the generated CT and its ground truth"
    return "\n".join([describe(explanation), drawn, seen, truth])


def draw_demo(explanation: Explanation, out: Path, *, progress: Progress | None = None) -> str:
    """Draw the figures of the demo's explanation, and return the text that names the files.

    Raises
    ------
    OutputError
        ``out`` cannot be written.
    """
    from Agg2ExpLib.figures import write_case_figures

    files = write_case_figures(explanation, out, classes=DEMO_DRAWN, progress=progress)
    return "\n".join([f"{out}/", *(f"  {name}.png, .svg" for name in dict.fromkeys(file.stem for file in files))])
