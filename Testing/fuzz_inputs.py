"""Damaged inputs of every kind, from seeds: what each reader makes of them. ``python -m Testing.fuzz_inputs --count 2000``.

Input number n is made from seed n alone, so that one number repeats it. A child process reads; it is ended when an input takes
longer than 20 seconds or 2 GB, and what it was at is counted.
"""

import argparse
import gzip
import io
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

LONGEST_S, MOST_MEMORY = 20.0, 2 << 30
OUTCOMES = ("read", "refused", "traceback", "hang", "memory", "half-written", "odd sentence")
_ODD = (
    "nan",
    "-1",
    "0",
    "1e309",
    "99999999999999999999",
    "",
    "[]",
    "null",
    "心",
    "a b",
    "1,5",
    "../../x",
    "%s",
    "True",
    "-0.0",
)
_ODD_VALUES = (
    None,
    -1,
    0,
    1e308,
    float("nan"),
    "",
    "x" * 5000,
    [],
    {},
    True,
    [[1]],
    {"a": 1},
    "../../etc",
    2**70,
    ["心"],
    -0.5,
)


# Good inputs: each writes into a folder and returns the path that is given to the reader


def _hu(shape=(6, 8, 9)):
    return np.rint(np.random.default_rng(1).normal(0, 300, shape))


def _image(name):
    def write(folder):
        import nibabel
        import SimpleITK as sitk

        if name.startswith("2"):
            nibabel.save(nibabel.Nifti2Image(_hu().astype(np.int16), np.diag([-2.0, -2, 3, 1])), folder / name)
        else:
            image = sitk.GetImageFromArray(_hu().astype(np.int16))
            image.SetSpacing((2.0, 2.0, 3.0))
            sitk.WriteImage(image, str(folder / name), useCompression="raw" not in name)
        return folder / name

    return write


def _series(folder):
    from Testing.dicom_writing import write_series

    return write_series(folder / "series", _hu())


def _enhanced(folder):
    from Testing.dicom_writing import write_enhanced

    return write_enhanced(folder / "ct.dcm", _hu(), [(0, 0, 3 * k) for k in range(6)])


def _masks():
    masks = np.zeros((2, 6, 8, 9), bool)
    masks[0, 1:4, 2:5, 2:6], masks[1, 2:5, 3:7, 1:5] = True, True
    return masks


def _segmentation(folder):
    from Testing.dicom_writing import write_segmentation

    return write_segmentation(folder / "seg.dcm", list(_masks()), ["one", "two"])


def _structure_set(folder):
    from Testing.dicom_writing import write_structure_set

    square = np.array([[2, 2], [12, 2], [12, 12], [2, 12]])
    return write_structure_set(folder / "rt.dcm", {"one": [np.c_[square, np.full(4, 3.0 * k)] for k in range(1, 4)]})


def _segments(folder):
    fields = [f"Segment{n}_{key}:={value}" for n in range(2) for key, value in
              (("ID", f"S{n}"), ("Name", f"region {n}"), ("LabelValue", 1), ("Layer", n))]  # fmt: skip
    lines = ["NRRD0004", "type: unsigned char", "dimension: 4", "sizes: 2 9 8 6", "encoding: raw",
             "space: left-posterior-superior", "space directions: none (2,0,0) (0,2,0) (0,0,3)", "space origin: (0,0,0)",
             "kinds: list domain domain domain", *fields]  # fmt: skip
    content = np.moveaxis(_masks(), 0, -1).astype(np.uint8).tobytes()
    (folder / "a.seg.nrrd").write_bytes("\n".join(lines).encode() + b"\n\n" + content)
    return folder / "a.seg.nrrd"


def _label_map(folder):
    import nibabel

    labels = (_masks()[0] + 2 * (_masks()[1] & ~_masks()[0])).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-2.0, -2, 3, 1])), folder / "seg.nii.gz")
    (folder / "seg.csv").write_text("label,name,r,g,b\n1,liver,1,2,3\n2,spleen,3,4,5\n")
    return folder / "seg.nii.gz"


def _cases(folder):
    lines = ["sep=,", "id,image,roi:effusion,sex,age", *(f"p{n},p{n}.nii.gz,,{'FM'[n % 2]},{40 + n}" for n in range(5))]
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    for n in range(5):
        (folder / f"p{n}.nii.gz").write_bytes(b"")
    return folder / "cases.csv"


def _published(folder):
    rng, names, rois = np.random.default_rng(1), ("heart", "liver"), ("background", "heart", "liver")
    head = ["patient", "sex", "age"] + [f"{name}_explanation_in_{roi}_mass" for name in names for roi in rois]
    rows = [
        [f"p{i}", "FM"[i % 2], f"{40 + i}", *(f"{x:.5f}" for _ in names for x in rng.dirichlet([2, 5, 3]))]
        for i in range(8)
    ]
    (folder / "table_ig.csv").write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")
    return folder / "table_ig.csv"


def _cohort(folder):
    from Testing.cohort_samples import table_of, write_cohort

    return write_cohort(folder / "cohort", {f"c{n}": table_of(f"c{n}") for n in range(12)})


def _profile(folder):
    from Agg2ExpLib.cohort.judge.profile import fit_profile
    from Agg2ExpLib.cohort.table.tables import CohortTable

    return fit_profile(CohortTable.read(_cohort(folder)), trees=5).save(folder / "healthy.npz")


def _model(folder):
    from Testing.small_networks import write_case

    return write_case(folder)[1]


def _checkpoint(folder):
    import torch

    from Testing.small_networks import tiny_swin_unetr

    torch.save({"epoch": 3, "state_dict": tiny_swin_unetr().state_dict()}, folder / "weights.pt")
    return folder / "weights.pt"


def _bundle(yaml):
    def write(folder):
        from Testing.monai_bundles import configuration, write_bundle

        return write_bundle(folder / "bundle", configuration(), yaml=yaml)

    return write


def _nnunet(folder):
    from Testing.small_nnunet import write_folder

    return write_folder(folder)


def _explanation(folder):
    # Beside us, where pytest finds it by itself.
    sys.path.append(str(Path(__file__).parent))
    from Testing.small_explanations import write_explanation

    write_explanation(folder / "case")
    return folder / "case"


def _request(folder):
    from Agg2ExpLib.request import request_of
    from Testing.small_networks import write_case

    scan, model = write_case(folder)
    asked = {"format": "agg2exp-request", "format_version": 1, "settings": request_of("gradient").to_dict(),
             "image": {"path": str(scan)}, "model": {"path": str(model), "name": "small"}}  # fmt: skip
    (folder / "request.json").write_text(json.dumps(asked, indent=1))
    return folder / "request.json"


def _task(folder):
    from Agg2ExpLib.task_file import ScanOrigin, TaskFile

    TaskFile("explain", ("ct.nii.gz", "--out", "x"), ScanOrigin("ct", "ct.nii.gz", "0" * 64)).write(
        folder / "task.json"
    )
    return folder / "task.json"


# Readers: each reads what it is given, and writes into ``out`` where its command does


def _read_scan(path, out):
    from Agg2ExpLib.volume import describe_series, file_sha256, read_volume, write_volume

    found = read_volume(path)
    if path.is_dir():
        describe_series(path)
    assert file_sha256(path) == found.sha256, "the scan was hashed differently"
    out.mkdir()
    written = read_volume(write_volume(found, out / "scan.nii.gz"))
    assert written.grid.same_as(found.grid, 1e-2), "what was written is elsewhere"


def _read_regions(path, out):
    from Agg2ExpLib.regions import read_regions

    for region in read_regions(path):
        assert region.name.strip(), "a region without a name"
        assert region.mask.shape == region.grid.shape


def _read_cases(path, out):
    from Agg2ExpLib.cohort.run.cases import find_cohort

    find_cohort(path)


def _import(path, out):
    from Agg2ExpLib.cohort.table.published import import_published

    import_published(path, out)


def _read_cohort(path, out):
    from Agg2ExpLib.cohort.table.tables import CohortTable

    CohortTable.read(path)


def _read_profile(path, out):
    from Agg2ExpLib.cohort.judge.profile import Profile

    Profile.load(path).warnings()


def _load(path, out):
    from Agg2ExpLib.models import load_model

    said = {"window": (64, 64, 64), "spacing": (1.5,) * 3, "intensity_range": (-1024.0, 1024.0)}
    load_model(path, **(said | {"labels": ("background", "heart", "aorta")} if path.suffix == ".pt" else {}))


def _read_explanation(path, out):
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.report import describe

    found = Explanation.load(path)
    describe(found)
    for name in found.explained:
        found.attribution(name)


def _repeat(path, out):
    from Agg2ExpLib.repeating import read_repeat

    read_repeat(path).run(out, changed=True)


def _read_task(path, out):
    from Agg2ExpLib.task_file import TaskFile

    TaskFile.read(path)


KINDS = {
    "DICOM series": (_series, _read_scan),
    "enhanced DICOM": (_enhanced, _read_scan),
    "NIfTI-1": (_image("scan.nii.gz"), _read_scan),
    "NIfTI-2": (_image("2.nii.gz"), _read_scan),
    "NRRD": (_image("scan.nrrd"), _read_scan),
    "NRRD, detached": (_image("scan_raw.nhdr"), _read_scan),
    "MetaImage": (_image("scan_raw.mha"), _read_scan),
    "MetaImage, detached": (_image("scan.mhd"), _read_scan),
    "DICOM SEG": (_segmentation, _read_regions),
    "RTSTRUCT": (_structure_set, _read_regions),
    ".seg.nrrd": (_segments, _read_regions),
    "label map and names": (_label_map, _read_regions),
    "table of cases": (_cases, _read_cases),
    "published table": (_published, _import),
    "cohort folder": (_cohort, _read_cohort),
    "profile": (_profile, _read_profile),
    "model folder and card": (_model, _load),
    "checkpoint": (_checkpoint, _load),
    "MONAI bundle, JSON": (_bundle(False), _load),
    "MONAI bundle, YAML": (_bundle(True), _load),
    "nnU-Net folder": (_nnunet, _load),
    "Explanation folder": (_explanation, _read_explanation),
    "request": (_request, _repeat),
    "task of the panel": (_task, _read_task),
}


# Damage


def damage(path, rng):
    """Change one file, one to three times; return what was done."""
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        ways = [_bytes, _bytes, _cut]
        if path.suffix in (".json", ".csv", ".yaml", ".tsv", ".txt", ".nhdr", ".mhd"):
            ways += [_words, _words, _lines]
        if path.suffix in (".nrrd", ".mha"):
            ways += [_words] * 3
        if path.suffix == ".json":
            ways += [_value] * 6
        if path.suffix == ".dcm":
            ways += [_element] * 8
        if path.suffix in (".gz", ".npz", ".pt", ".pth"):
            ways += [_inside] * 5
        way = ways[rng.integers(len(ways))]
        before = path.read_bytes()
        try:
            way(path, rng)
        # A file that an earlier change has spoilt for this one keeps that.
        except Exception:
            path.write_bytes(before)
        done.append(way.__name__.strip("_"))
    return done


def _bytes(path, rng):
    content = bytearray(path.read_bytes())
    reach = min(len(content), 700) if rng.random() < 0.6 else len(content)
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(reach)] = rng.choice([0, 255, 127, 48, rng.integers(256)])
    path.write_bytes(bytes(content))


def _cut(path, rng):
    content = path.read_bytes()
    at, length = rng.integers(len(content) + 1), int(rng.integers(1, 200))
    kept = (
        content[:at],
        content[:at] + content[at + length :],
        content[:at] + content[at : at + length] + content[at:],
    )
    path.write_bytes(kept[rng.integers(3)])


def _words(path, rng):
    import re

    content = path.read_bytes()
    # Of a header with voxels behind it, the header.
    found = list(re.finditer(rb"[-\w.+]+", content[: 500 if path.suffix in (".nrrd", ".mha") else None]))
    one = found[rng.integers(len(found))]
    path.write_bytes(content[: one.start()] + str(rng.choice(_ODD)).encode() + content[one.end() :])


def _lines(path, rng):
    lines = path.read_bytes().split(b"\n")
    one, other = rng.integers(len(lines), size=2)
    lines[one : one + 1] = [[], [lines[one]] * 2, [lines[other]], [b"\xff\xfe" + lines[one]]][rng.integers(4)]
    path.write_bytes((b"\r\n" if rng.random() < 0.2 else b"\n").join(lines))


def _value(path, rng):
    found = json.loads(path.read_text(encoding="utf-8"))
    spots = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            spots.append((node, key))
            if isinstance(node[key], (dict, list)) and node[key]:
                walk(node[key])

    walk(found)
    node, key = spots[rng.integers(len(spots))]
    if rng.random() < 0.25:
        del node[key]
    else:
        node[key] = _ODD_VALUES[rng.integers(len(_ODD_VALUES))]
    path.write_text(json.dumps(found), encoding="utf-8")


def _element(path, rng):
    import warnings

    import pydicom

    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        spots = [(holder, element) for holder in _datasets(data) for element in holder]
        holder, element = spots[rng.integers(len(spots))]
        if rng.random() < 0.3:
            del holder[element.tag]
        elif element.VR in ("DS", "IS", "FD", "US", "UL", "SS"):
            # Numbers that no writer of pydicom's would write go in as text.
            texts = ["0", "-1", "1e30", "nan", "", "7", "65535", "0.001"]
            given = "\\".join(str(rng.choice(texts)) for _ in range(rng.choice([element.VM or 1, 1, 3]))).encode()
            raw = pydicom.dataelem.RawDataElement(element.tag, element.VR, len(given), given, 0, False, True)
            whole = pydicom.DataElement(element.tag, element.VR, int(rng.integers(3)))
            holder[element.tag] = raw if element.VR in ("DS", "IS") else whole
        elif element.VR == "SQ":
            element.value = list(element.value)[: rng.integers(len(element.value) + 1)]
        elif element.VR not in ("OB", "OW"):
            element._value = str(rng.choice(["", "1.2.840.10008.1.2.4.90", "SCOUT", "心", "x" * 300, "RGB"]))
        data.save_as(path, enforce_file_format=False)


def _datasets(data):
    yield data
    if hasattr(data, "file_meta"):
        yield data.file_meta
    for element in data:
        if element.VR == "SQ":
            for one in element.value:
                yield from _datasets(one)


def _inside(path, rng):
    """Damage what is compressed or packed, so that it unpacks and is wrong within."""
    if path.suffix == ".gz":
        part = path.with_suffix(".unpacked")
        part.write_bytes(gzip.decompress(path.read_bytes()))
        [_bytes, _cut][rng.integers(2)](part, rng)
        path.write_bytes(gzip.compress(part.read_bytes(), 1))
        part.unlink()
        return
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as packed:
        members = {info.filename: packed.read(info) for info in packed.infolist()}
    name = sorted(members)[rng.integers(len(members))]
    part = path.with_name("member" + Path(name).suffix)
    part.write_bytes(members[name])
    [_bytes, _cut, *([_value] * 3 if name.endswith(".json") else [])][rng.integers(2)](part, rng)
    members[name] = part.read_bytes()
    part.unlink()
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)


# One input, and many


def one_input(number, good, work):
    """Make input ``number``, read it, and return its kind, the outcome and a text about it."""
    from Agg2ExpLib.errors import Agg2ExpError

    rng = np.random.default_rng(number)
    kind = list(KINDS)[number % len(KINDS)]
    make, read = KINDS[kind]
    home = good / str(number % len(KINDS))
    if not home.is_dir():
        home.mkdir(parents=True)
        (good / f"{home.name}.given").write_text(make(home).relative_to(home).as_posix())
    folder, out = work / "in", work / "out"
    for old in (folder, out):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(home, folder)
    path = folder / (good / f"{home.name}.given").read_text()
    near = path.rglob("*") if path.is_dir() else path.parent.glob("*")
    files = sorted(file for file in near if file.is_file() and file.stat().st_size)
    spoilt = files[rng.integers(len(files))]
    done = damage(spoilt, rng)
    before, base, started = sorted(folder.rglob("*")), _memory(), time.monotonic()
    try:
        read(path, out)
        outcome, text = "read", ""
    except Agg2ExpError as error:
        text = str(error)
        outcome = "refused" if text.strip() and "\n" not in text and len(text) < 2000 else "odd sentence"
    except MemoryError:
        outcome, text = "memory", ""
    # That is what is looked for.
    except Exception:
        outcome, text = "traceback", traceback.format_exc()
    if time.monotonic() - started > LONGEST_S:
        outcome = "hang"
    elif _memory() - base > MOST_MEMORY:
        outcome = "memory"
    elif outcome != "traceback" and (sorted(folder.rglob("*")) != before or not _whole(out, outcome)):
        outcome, text = "half-written", f"{sorted(set(folder.rglob('*')) - set(before))} {list(out.rglob('*'))} {text}"
    return kind, outcome, f"{spoilt.relative_to(folder)} ({', '.join(done)}) {text}"


def _whole(out, outcome):
    """Tell whether an output folder is whole: nothing where reading was refused, and no temporary file."""
    there = [file.name for file in out.rglob("*")]
    return not any(name.startswith(".") or ".part" in name or "tmp" in name for name in there) and (
        outcome == "read" or not there
    )


def _memory():
    """Bytes of the largest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(pipe, good, work):
    sys.stderr = io.StringIO()
    while (number := pipe.recv()) is not None:
        pipe.send(one_input(number, good, work))


def run(numbers):
    """Yield (number, kind, outcome, text) of inputs, each read in a child that is ended when it hangs."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        good, work = Path(folder, "good"), Path(folder, "work")
        child = None
        for number in numbers:
            if child is None:
                pipe, far = context.Pipe()
                child = context.Process(target=_serve, args=(far, good, work), daemon=True)
                child.start()
                far.close()
            pipe.send(number)
            # The first inputs of a child wait for its imports, and for the good input to be made.
            if pipe.poll(5 * LONGEST_S):
                try:
                    yield (number, *pipe.recv())
                    continue
                except EOFError:
                    yield number, list(KINDS)[number % len(KINDS)], "traceback", "the process crashed"
            else:
                yield number, list(KINDS)[number % len(KINDS)], "hang", ""
            child.kill()
            child = None
        if child is not None:
            pipe.send(None)
            child.join()


def table(found):
    """Return the counts as Markdown, one line a kind."""
    lines = [f"| kind | {' | '.join(OUTCOMES)} |", "|---|" + "--:|" * len(OUTCOMES)]
    for kind in (*KINDS, "all"):
        counts = Counter(outcome for _, one, outcome, _ in found if kind in (one, "all"))
        lines.append(f"| {kind} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--all", action="store_true", help="tell of every input, not of the bad ones alone")
    options = parser.parse_args()
    found = []
    for one in run(range(options.first, options.first + options.count)):
        found.append(one)
        if options.all or one[2] not in ("read", "refused"):
            print(*one, flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
