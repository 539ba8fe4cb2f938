"""Make what 3D Slicer's Sample Data module offers of this extension: a CT with findings, explained by the bundled model.

Usage: python Resources/SampleData/make_sample.py    (some minutes on a CPU; needs the library with torch, and OpenGL)

Run it again whenever the bundled model changes, and commit what it writes: the Explanation folder under
``Agg2Exp/Resources/SampleData`` and the two thumbnails under ``Agg2Exp/Resources/Icons``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from Agg2ExpLib.demo import DEMO_FINDINGS, DEMO_INDEX, DEMO_MODEL, DEMO_SEED
from Agg2ExpLib.explanation import Explanation, explain
from Agg2ExpLib.explanation.folder import DOCUMENT, attribution_file
from Agg2ExpLib.phantom import Finding, write_phantoms
from Agg2ExpLib.request import request_of
from Agg2ExpLib.scene.render import RIGHT, TOP, render_explanation
from Agg2ExpLib.storage import replace_folder
from Agg2ExpLib.volume import Volume, write_volume

RESOURCES = Path(__file__).resolve().parents[2] / "Agg2Exp" / "Resources"
TARGET = RESOURCES / "SampleData" / "thorax-phantom-explained"
THUMBNAILS = {
    "ct": RESOURCES / "Icons" / "Agg2ExpSampleCT.png",
    "explained": RESOURCES / "Icons" / "Agg2ExpSampleExplained.png",
}
#: The bundled model's own spacing: the scan is its own copy on the model's grid.
SPACING = 3.0
#: Of those that the reference has: one large, one small, one beside the effusion.
CLASSES = ("heart", "aorta", "lung_lower_lobe_right")
#: That of the reference, without which the two could not be compared.
METHOD = "gradient"
#: Of float32's 23; each voxel is then wrong by at most 0.8 %, half of them either way, and the files are half as large.
MANTISSA_BITS = 6
NOTE = (
    f"Sample data: attributions are stored with {MANTISSA_BITS} bits of mantissa (each voxel within 0.8 %); "
    "the tables were computed before that."
)
PIXELS = 256


def main() -> Path:
    """Write the sample and return its folder."""
    # Beside the target, so that the finished folder only needs another name.
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".make-sample-", dir=TARGET.parent) as name:
        work = Path(name)
        findings = [Finding.parse(text) for text in DEMO_FINDINGS]
        (case,) = write_phantoms(work, 1, DEMO_SEED, SPACING, findings, first=DEMO_INDEX)
        regions = {file.name.removesuffix(".nii.gz"): file for file in sorted((case / "findings").glob("*.nii.gz"))}
        settings = request_of(METHOD, classes=CLASSES, device="cpu")
        found = explain(case / "ct.nii.gz", DEMO_MODEL, work / "explanation", settings, regions=dict(regions))
        shorten(found)
        forget_this_machine(found)
        draw_thumbnails(Explanation.load(found.folder), work / "pictures")
        replace_folder(found.folder, TARGET)
    return TARGET


def shorten(found: Explanation) -> None:
    """Round the attributions, so that they compress."""
    for name in found.explained:
        exact = found.attribution(name)
        write_volume(Volume(rounded(exact.voxels), exact.grid), found.folder / attribution_file(name))


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 values with fewer bits of mantissa, to nearest.

    Examples
    --------
    >>> float(rounded(np.float32([1.0 + 2**-6]))[0]), float(rounded(np.float32([1.0 + 2**-8]))[0])
    (1.015625, 1.0)
    """
    drop = 23 - MANTISSA_BITS
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + (1 << (drop - 1))) >> drop << drop
    return bits.astype(np.uint32).view(np.float32)


def forget_this_machine(found: Explanation) -> None:
    """Take out where the files lay here; the scan is then the folder's own copy, the model the bundled one."""
    document = json.loads((found.folder / DOCUMENT).read_text(encoding="utf-8"))
    document["image"] |= {"path": "", "name": "thorax phantom"}
    document["model"]["path"] = ""
    # How long a stage took here says nothing of how long refining will take elsewhere.
    document["timings"] = {"total_seconds": document["timings"]["total_seconds"]}
    for region in document["regions"]:
        region["source"] = ""
    document["messages"] = [*document["messages"], NOTE]
    (found.folder / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def draw_thumbnails(found: Explanation, folder: Path) -> None:
    """Draw the scan, and the scan with its overlay as Slicer's slice view shows it."""
    from PIL import Image

    # The effusion is low in the chest, where the heart is large.
    place = np.argwhere(found.region("pleural_effusion").voxels > 0)[:, 2].mean().astype(int)
    grey = np.clip((found.model_image().voxels[:, :, place] + 850) / 1400, 0, 1) * 255
    square(Image.fromarray(np.rot90(grey[::-1]).astype(np.uint8))).save(THUMBNAILS["ct"], optimize=True)
    render_explanation(found, folder, names=["heart"])
    view = Image.open(folder / "heart-axial.png").convert("RGB")
    # Legend and title have a margin of their own.
    view = view.crop((0, int(TOP * view.height), int((1 - RIGHT) * view.width), view.height))
    square(view).quantize(128).save(THUMBNAILS["explained"], optimize=True)


def square(picture: object) -> object:
    """Return a whole picture in a black square of the thumbnails' size."""
    from PIL import ImageOps

    return ImageOps.pad(picture, (PIXELS, PIXELS))


if __name__ == "__main__":
    print(main())
