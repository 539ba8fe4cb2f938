"""Commands for models: model list, inspect, add, trust, remove."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from Agg2ExpLib.cli.common import add_card_options, card_options_of, command, progress_of, quiet_libraries
from Agg2ExpLib.cli.screen import say


def add(commands: Any) -> None:
    """Add these commands."""
    command(commands, "models", _list, "the same as model list")
    command(
        commands, "model list", _list, "list the models: bundled, added, and TotalSegmentator's with what is missing"
    )
    _add_inspect(commands)
    _add_add(commands)
    _add_trust(commands)
    _add_remove(commands)


def _list(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.models.listing import describe_models, list_models

    found = list_models()
    say(json.dumps(found) if options.progress == "json" else describe_models(found))


def _add_inspect(commands: Any) -> None:
    parser = command(commands, "model inspect", _inspect, "load a model and say what it is and what it expects")
    parser.add_argument("model", metavar="M", help="name, folder or file")
    add_card_options(parser)


def _inspect(options: argparse.Namespace) -> None:
    from Agg2ExpLib.models import load_model
    from Agg2ExpLib.models.listing import describe_model

    quiet_libraries()
    say(describe_model(load_model(options.model, **card_options_of(options))))


def _add_add(commands: Any) -> None:
    parser = command(
        commands,
        "model add",
        _add,
        "give a model a name; of the model zoo, Hugging Face or an address it is fetched first",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="file or folder, name in MONAI's model zoo, hf:OWNER/NAME, or https://... of one file",
    )
    parser.add_argument("--name", metavar="NAME", help="what --model is given from now on (default: the file's name)")
    parser.add_argument("--sha256", metavar="HEX", default="", help="what the file at an address must have")
    add_card_options(parser)


def _add(options: argparse.Namespace) -> None:
    import json

    from Agg2ExpLib.models.listing import add_model

    quiet_libraries()
    entry = add_model(
        options.source,
        options.name or "",
        sha256=options.sha256,
        progress=progress_of(options),
        **card_options_of(options),
    )
    if options.progress == "json":
        say(json.dumps({"name": entry.name, "path": entry.path}))
    else:
        say(f"{entry.name}: {entry.path}\n  use it with --model {entry.name}")


def _add_trust(commands: Any) -> None:
    text = "let a program (TorchScript, torch.export) run on this computer, as long as its file stays as it is"
    command(commands, "model trust", _trust, text).add_argument("model", metavar="M", help="name or file")


def _trust(options: argparse.Namespace) -> None:
    from Agg2ExpLib.models import find_model
    from Agg2ExpLib.models.library import Library

    path = find_model(options.model)
    digest = Library().trust(path)
    say(f"{path} is trusted (sha256 {digest}); any change of it ends that")


def _add_remove(commands: Any) -> None:
    text = "forget an added model; what was downloaded for it is deleted, other files stay"
    command(commands, "model remove", _remove, text).add_argument("name", metavar="NAME")


def _remove(options: argparse.Namespace) -> None:
    from Agg2ExpLib.models.listing import remove_model

    entry = remove_model(options.name)
    kept = "" if entry.source or not Path(entry.path).exists() else f"; its files stay at {entry.path}"
    say(f"{entry.name} is removed{kept}")
