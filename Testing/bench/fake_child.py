"""Stands in for the interpreter of the child process: the same words on standard output, no network.

Called as PythonSlicer would be: ``fake_child.py .../cli/__main__.py task FILE``. What it does beyond that is told by the file
``behaviour.json`` beside the launcher that starts it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def say(stage, done, total, detail=""):
    event = {"stage": stage, "done": done, "total": total, "detail": detail, "seconds_left": 1.0, "kind": "progress"}
    print(json.dumps(event), flush=True)


def options(words):
    found = {"roi": []}
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            found["roi"].append(value) if name == "roi" else found.__setitem__(name, value)
        else:
            found["image"] = word
    return found


def explain(given, behaviour):
    from Agg2ExpLib.volume import Grid, read_volume, to_grid
    from Testing.bench.small_explanation import AFFINE, SHAPE, write_small_explanation

    out = Path(given["out"])
    for index in range(behaviour.get("events", 3)):
        say("attributions", index + 1, behaviour.get("events", 3), "heart")
    if behaviour.get("hang"):
        Path(behaviour["pid_file"]).write_text(str(os.getpid()))
        say("attributions", 1, 3, "heart")
        out.with_name(f".{out.name}.partial").mkdir(parents=True)
        try:
            while True:
                time.sleep(0.01)
        finally:
            out.with_name(f".{out.name}.partial").rmdir()
    if "crash" in behaviour:
        print(behaviour["crash"], file=sys.stderr, flush=True)
        sys.exit(1)
    if "refuse" in behaviour:
        print(f"agg2exp: {behaviour['refuse']}", file=sys.stderr, flush=True)
        sys.exit(2)
    regions = {}
    for item in given["roi"]:
        name, _, file = item.partition("=")
        regions[name] = to_grid(read_volume(file, kind="labels"), Grid(SHAPE, AFFINE), "nearest").voxels > 0
    write_small_explanation(out, given["image"], regions, given.get("model", "small"))


def add_model(given, behaviour):
    """Remember a model as the command does, and load nothing."""
    from Agg2ExpLib.models.library import Entry, Library

    if "refuse" in behaviour:
        print(f"agg2exp: {behaviour['refuse']}", file=sys.stderr, flush=True)
        sys.exit(2)
    card = {"name": given["name"], "labels": given["labels"].split(","), "window": [16, 16, 16]}
    Library().add(Entry(given["name"], given["image"], card=card))
    print(json.dumps({"name": given["name"], "path": given["image"]}))


def compare(given, behaviour):
    out = Path(given["out"])
    out.mkdir(parents=True)
    Path(behaviour["pid_file"]).write_text(str(os.getpid()))
    while behaviour.get("hang"):
        time.sleep(0.01)


def whatif(given, behaviour):
    import numpy as np

    from Agg2ExpLib.volume import Grid, Volume, write_volume
    from Testing.bench.small_explanation import AFFINE, labels

    if "refuse" in behaviour:
        print(f"agg2exp: {behaviour['refuse']}", file=sys.stderr, flush=True)
        sys.exit(2)
    say("predicting again", 0, 1)
    while behaviour.get("hang"):
        time.sleep(0.01)
    out = Path(given["out"])
    out.mkdir()
    changed = np.where(labels() == 1, 0, labels()).astype(np.int16)
    write_volume(Volume(changed, Grid(changed.shape, AFFINE)), out / "prediction.nii.gz")
    (out / "whatif.csv").write_text(
        "class,dice,volume_before_ml,volume_after_ml\nheart,0.0,13.8,0.0\naorta,1.0,5.2,5.2\ntrachea,nan,0.0,0.0\n"
    )


def cohort(words, given, behaviour):
    """The real runner over a network that is none: a case whose name has ``bad`` fails, ``stop_at`` is never finished."""
    from dataclasses import replace

    from Agg2ExpLib.cohort.run.cases import find_cohort
    from Agg2ExpLib.cohort.run.runner import run_cohort
    from Agg2ExpLib.progress import JsonLinesSink, Progress
    from Testing.bench.small_explanation import write_small_explanation
    from Testing.cohort_samples import fake_explain, fake_job

    if "crash" in behaviour:
        print(behaviour["crash"], file=sys.stderr, flush=True)
        sys.exit(1)

    def explain(image, model, out, settings, **others):
        Path(behaviour["pid_file"]).write_text(str(os.getpid()))
        while image.parent.name == behaviour.get("stop_at"):
            time.sleep(0.01)
        with tempfile.TemporaryDirectory() as passing:
            found = fake_explain(image, model, Path(passing) / "out", settings)
        write_small_explanation(out, image)
        return found

    job = replace(fake_job(given["out"], keep="--keep" in words), explain=explain)
    run_cohort(
        find_cohort(given["image"]),
        job,
        workers=1,
        retry_failed="--retry-failed" in words,
        progress=Progress(JsonLinesSink()),
    )


def stop_kindly(work):
    """As the command does: asked to stop, it cleans up and says that it was."""
    from Agg2ExpLib.cli.parent import obey_parent

    try:
        parent = obey_parent()
        work(parent)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        print(f"agg2exp: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


def main():
    behaviour = json.loads(Path(sys.argv[1]).with_name("behaviour.json").read_text())
    if behaviour.get("launcher") and not os.environ.get("AGG2EXP_FAKE_INNER"):
        # As PythonSlicer: a launcher that waits for the real interpreter.
        inner = {**os.environ, "AGG2EXP_FAKE_INNER": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=inner, check=False).returncode)
    if sys.argv[3:4] != ["task"]:
        sys.exit("the panel starts tasks only")
    found = json.loads(Path(sys.argv[4]).read_text(encoding="utf-8"))
    if found["command"].startswith(("profile", "figures")):
        # No network is needed for these: the real command.
        from Agg2ExpLib.cli import main as real

        sys.exit(real(sys.argv[3:]))
    (Path(sys.argv[1]).parent / "task.json").write_text(json.dumps(found))
    stop_kindly(lambda parent: work(found["command"], found["arguments"], behaviour, parent))


def ask(parent):
    """Ask as the command does before long work, and wait for the answer."""
    event = {"stage": "attributions", "done": 3, "total": 9, "detail": "", "seconds_left": 2400.0, "kind": "question"}
    print(json.dumps(event | {"least_left": 2400.0, "most_left": 4800.0}), flush=True)
    parent.wait()


def instances(given):
    """Five that are alike, and a sixth that is not; the last has no importance."""
    rows = [
        {"structure": given["classes"], "number": number, "volume_ml": 7.5 - number, "x": -3.0 * number, "y": -18.0, "z": 21.0,
         "inside": 0.7, "rim": 0.2, "outside": 0.1, "enrichment": 90.0, "shell": 0.1, "windows": 1, "oddness": 0.5,
         "expected": 4.0, "odd": False, "why": "more inside"}
        for number in range(1, 8)
    ]  # fmt: skip
    rows[3] |= {"inside": 0.1, "outside": 0.7, "oddness": 31.0, "expected": 0.004, "odd": True, "why": "less inside"}
    rows[6] |= dict.fromkeys(("inside", "rim", "outside", "shell", "oddness", "expected"))
    told = f"{given['classes']}: 7 instances. Unlike the others of its size: number 4 (less inside, z 31.0)."
    return {"rim_mm": 5.0, "min_volume_ml": 0.03, "sentences": [told], "instances": rows}


def work(command, words, behaviour, parent):
    given = options(words)
    if behaviour.get("ask"):
        ask(parent)
    if command == "cohort report":
        # Drawing a report takes seconds and is tested with the command.
        Path(given["out"]).write_text("<html>the report</html>")
    elif command == "cohort":
        cohort(words, given, behaviour)
    elif command == "explain":
        explain(given, behaviour)
    elif command == "model add":
        add_model(given, behaviour)
    elif command == "compare-methods":
        compare(given, behaviour)
    elif command == "whatif":
        whatif(given, behaviour)
    elif command == "needs":
        tried = [[0.0, 0.4], [2.0, 0.8], [5.0, 0.97], [4.0, 0.93]]
        print(
            json.dumps(
                {
                    "structure": given["class"],
                    "least": 5.0,
                    "tried": tried,
                    "sentence": "The heart needs 5 mm around it.",
                }
            )
        )
    elif command == "instances":
        print(json.dumps(instances(given)))
    elif command == "estimate":
        print(
            json.dumps(
                {"windows": 8, "seconds_at_least": 3.1, "seconds_at_most": 95.0, "memory_bytes": 2**31, "device": "cpu"}
            )
        )
    elif command == "environment":
        device = {
            "id": "cpu",
            "name": "CPU, 1 threads",
            "free_bytes": None,
            "total_bytes": None,
            "ok": True,
            "problem": "",
        }
        print(json.dumps({"agg2exp": "0", "python": "3", "executable": "x", "system": "s", "packages": {}, "missing": [],
                          "problems": [], "devices": [device]}))  # fmt: skip


if __name__ == "__main__":
    main()
