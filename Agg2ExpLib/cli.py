"""The commands. ``agg2exp explain`` is also what the Slicer panel runs in its child process.

Exit codes: 0 done; 2 an input or output cannot be used (one sentence on standard error); 130 cancelled.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

# When run by path, as a child process of Slicer does, the library's parent folder is not on the path.
if __package__ in (None, ""):
    # Its own folder is, though, and names such as "models" in it must not hide other packages.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from Agg2ExpLib import __version__
from Agg2ExpLib.errors import Agg2ExpError, Cancelled, InputError
from Agg2ExpLib.progress import JsonLinesSink, Progress, TerminalSink

DEMO_MODEL = "thorax-phantom"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _stop_on_signals()
    try:
        options.run(options)
        return 0
    except (KeyboardInterrupt, Cancelled):
        _complain("cancelled; nothing incomplete was left behind")
        return 130
    except Agg2ExpError as error:
        _complain(str(error))
        return 2
    except MemoryError:
        _complain(
            "not enough memory; explain fewer classes (--classes), or use a coarser --spacing or a smaller --window"
        )
        return 2
    except BrokenPipeError:
        # The reader of our output went away (agg2exp ... | head); that is not an error.
        sys.stderr.close()
        return 0


def _complain(sentence: str) -> None:
    print(f"agg2exp: {' '.join(sentence.split())}", file=sys.stderr)


def _stop_on_signals() -> None:
    """Let a kind kill (SIGTERM) clean up as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Signals can be set in the main thread only; a caller in another thread handles its own.
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agg2exp",
        description="What did a 3D segmentation network look at? Voxel attributions and RoI importance for CT.",
    )
    parser.add_argument("--version", action="version", version=f"agg2exp {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_explain(commands)
    _add_show(commands)
    _add_estimate(commands)
    _add_whatif(commands)
    _add_phantom(commands)
    _add_train(commands)
    _add_demo(commands)
    _add_models(commands)
    _add_environment(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--progress",
        choices=("bar", "json", "none"),
        default="bar",
        help="bar (default), JSON lines on standard output for a parent process, or none",
    )
    return parser


def _progress(options: argparse.Namespace) -> Progress:
    if options.progress == "none":
        return Progress()
    return Progress(JsonLinesSink() if options.progress == "json" else TerminalSink())


# -- explain --------------------------------------------------------------------------------------------------------


def _add_explain(commands: Any) -> None:
    parser = _command(commands, "explain", _explain, "explain the segmentation of one CT")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace an Explanation folder at --out")
    parser.add_argument("--resume", action="store_true", help="keep finished classes when stopped, and go on from them")
    parser.add_argument(
        "--roi", action="append", default=[], metavar="NAME=FILE", help="extra region: a mask on any grid; repeatable"
    )
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Scan, model and settings of one explanation."""
    parser.add_argument("image", metavar="IMAGE", help="CT: NIfTI, NRRD, MHA file, or a folder with a DICOM series")
    _add_model_options(parser)
    parser.add_argument("--method", default="smoothgrad", help="gradient, smoothgrad (default) or integrated-gradients")
    parser.add_argument(
        "--classes", metavar="A,B", help="classes to explain; default every structure; 'all' adds background"
    )
    parser.add_argument("--samples", type=int, metavar="N", help="noisy copies or path points (default 20)")
    parser.add_argument(
        "--sigma", type=float, default=0.1, help="SmoothGrad noise, share of the image's range (default 0.1)"
    )
    parser.add_argument("--reduction", default="sum", help="sum (default), mean or probability")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda:N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="float32", help="float32 (default), float64, bfloat16, float16 (GPU)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="windows per network pass (default 1)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=DEMO_MODEL,
        metavar="M",
        help=f"bundled name, model folder, or Swin UNETR checkpoint (default {DEMO_MODEL}); see agg2exp models",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="JSON list of class names, class 0 first, for a bare checkpoint"
    )
    parser.add_argument("--spacing", metavar="X,Y,Z", help="model's voxel size in mm, when there is no card")
    parser.add_argument("--window", metavar="X,Y,Z", help="network window in voxels, when there is no card")
    parser.add_argument("--overlap", type=float, help="overlap of windows, 0 to 0.9 (default: the card's)")
    parser.add_argument("--blending", help="constant or gaussian (default: the card's)")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load a .pt/.pth on torch before 2.10, whose loader has known holes",
    )


def _explain(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import explain

    settings = _settings(options)
    progress = _progress(options)
    _quiet_libraries()
    explanation = explain(
        options.image,
        _load_model(options),
        options.out,
        settings,
        regions=_regions(options.roi),
        overwrite=options.overwrite,
        resume=options.resume,
        progress=progress,
    )
    if options.progress != "json":
        _print_result(explanation)


def _settings(options: argparse.Namespace) -> Any:
    from Agg2ExpLib.explanation import Settings

    return Settings(
        method=options.method,
        classes=_classes(options.classes),
        samples=options.samples,
        sigma=options.sigma,
        reduction=options.reduction,
        seed=options.seed,
        precision=options.precision,
        device=options.device,
        batch_size=options.batch_size,
    )


def _load_model(options: argparse.Namespace) -> Any:
    from Agg2ExpLib.models import load_model, read_labels

    return load_model(
        options.model,
        labels=read_labels(options.labels) if options.labels else None,
        spacing=numbers(options.spacing, "--spacing", float) if options.spacing else None,
        window=numbers(options.window, "--window", int) if options.window else None,
        overlap=options.overlap,
        blending=options.blending,
        trust_checkpoint=options.trust_checkpoint,
    )


def _classes(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str, option: str, kind: Callable[[str], Any], count: int = 3) -> tuple[Any, ...]:
    """Read ``1.5`` or ``1.5,1.5,3`` as ``count`` numbers.

    Examples
    --------
    >>> numbers("96", "--window", int)
    (96, 96, 96)
    """
    parts = text.replace("x", ",").split(",")
    try:
        values = tuple(kind(part) for part in parts)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a number or {count} numbers with commas between") from error
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise InputError(f"{option} {text!r} has {len(values)} numbers; give one or {count}")
    return values


def _regions(items: Sequence[str]) -> dict[str, Path]:
    regions: dict[str, Path] = {}
    for item in items:
        name, equals, file = item.partition("=")
        if not equals or not name.strip() or not file:
            raise InputError(f"--roi {item!r} is not NAME=FILE")
        if name.strip() in regions:
            raise InputError(f"--roi {name.strip()!r} is given twice; give each region its own name")
        regions[name.strip()] = Path(file)
    return regions


def _quiet_libraries() -> None:
    """Keep other libraries' deprecation notes off the user's screen; ours come as messages."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(monai|torch)(\.|$)")


def _print_result(explanation: Any) -> None:
    from Agg2ExpLib.report import describe

    print(describe(explanation))


# -- the other commands -----------------------------------------------------------------------------------------------


def _add_show(commands: Any) -> None:
    parser = _command(commands, "show", _show, "print the importance table of an Explanation folder")
    parser.add_argument("folder", metavar="DIR")


def _show(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation

    _print_result(Explanation.load(options.folder))


def _add_estimate(commands: Any) -> None:
    parser = _command(commands, "estimate", _estimate, "say what explaining a CT would cost, without doing it")
    _add_settings(parser)


def _estimate(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.estimate import describe_estimate, estimate

    settings = _settings(options)
    _quiet_libraries()
    found = estimate(options.image, _load_model(options), settings)
    print(json.dumps(found.to_dict()) if options.progress == "json" else describe_estimate(found))


def _add_whatif(commands: Any) -> None:
    parser = _command(commands, "whatif", _whatif, "replace a region in the scan and predict again")
    parser.add_argument("folder", metavar="DIR", help="Explanation folder of the scan")
    parser.add_argument(
        "--roi", required=True, metavar="NAME[=FILE]", help="a class, a region of the explanation, or any mask file"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; must not exist")
    parser.add_argument("--fill", default="shell", help="air, shell (mean of what is around, default) or noise")
    parser.add_argument("--model", metavar="M", help="where the explained model is now, if it was moved")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")


def _whatif(options: argparse.Namespace) -> None:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.whatif import describe_whatif, whatif

    _quiet_libraries()
    name, _, file = options.roi.partition("=")
    result = whatif(
        Explanation.load(options.folder),
        name.strip(),
        options.out,
        mask=file or None,
        fill=options.fill,
        model=options.model,
        device=options.device,
        seed=options.seed,
        progress=_progress(options),
    )
    if options.progress != "json":
        print(describe_whatif(result))


def _add_phantom(commands: Any) -> None:
    parser = _command(commands, "phantom", _phantom, "generate chest CT phantoms with ground truth")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=1, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="index of the first patient (default 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cohort; patient = (seed, index)")
    parser.add_argument("--spacing", default="1.5", metavar="X,Y,Z", help="mm (default 1.5)")
    parser.add_argument(
        "--finding",
        action="append",
        default=[],
        metavar="KIND[:SEVERITY[:SIDE[:LOBE]]]",
        help="pleural_effusion, consolidation, nodule or pneumothorax; severity above 0 to 1; repeatable",
    )


def _phantom(options: argparse.Namespace) -> None:
    from Agg2ExpLib.phantom import Finding, write_phantoms

    findings = [Finding.parse(text) for text in options.finding]
    spacing = numbers(options.spacing, "--spacing", float)
    cases = write_phantoms(
        options.out, options.count, options.seed, spacing, findings, options.first, _progress(options)
    )
    if options.progress != "json":
        print(
            f"{len(cases)} case{'s' if len(cases) > 1 else ''} in {options.out}: {cases[0].name} ... {cases[-1].name}"
        )


def _add_train(commands: Any) -> None:
    from Agg2ExpLib.training.options import add_options

    add_options(_command(commands, "train", _train, "train a Swin UNETR on a folder of cases"))


def _train(options: argparse.Namespace) -> None:
    from Agg2ExpLib.training import train
    from Agg2ExpLib.training.options import settings_of

    _quiet_libraries()
    out = train(
        options.data,
        options.validation,
        options.run_folder,
        options.out,
        settings_of(options),
        options.device,
        description=options.description,
        licence=options.licence,
        command=options.command_line,
        progress=_progress(options),
    )
    # Of the processes of torchrun only the first writes, and tells.
    if options.progress != "json" and os.environ.get("RANK", "0") == "0":
        print(f"model written to {out}")


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "explain a generated CT with the bundled demo model")
    parser.add_argument("--out", default="demo", metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier demo")


def _demo(options: argparse.Namespace) -> None:
    from Agg2ExpLib.demo import run_demo

    _quiet_libraries()
    print(run_demo(Path(options.out), overwrite=options.overwrite, progress=_progress(options)))


def _add_models(commands: Any) -> None:
    _command(commands, "models", _models, "list the bundled models")


def _models(options: argparse.Namespace) -> None:
    from Agg2ExpLib.models import bundled_models
    from Agg2ExpLib.models.card import read_card

    for name, folder in bundled_models().items():
        card = read_card(folder)
        print(f"{name}: {len(card.labels)} classes, spacing {card.spacing} mm, window {card.window}\n  {folder}")


def _add_environment(commands: Any) -> None:
    _command(commands, "environment", _environment, "list packages and devices, for a report of a problem")


def _environment(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.environment import describe_environment, environment

    found = environment()
    print(json.dumps(found) if options.progress == "json" else describe_environment(found))


if __name__ == "__main__":
    sys.exit(main())
