"""The table of methods and options, made of the methods themselves."""

from __future__ import annotations

import math

from Agg2ExpLib.methods import METHODS, Option

# Nobody comes near: a limit of the machine, not of the method.
_UNBOUNDED = 1e15


def options_table() -> str:
    """Return all methods with their options as Markdown."""
    parts = []
    for method in METHODS.values():
        parts.append(
            f"### {method.name} (`--method {method.id}`)\n\n{method.summary} `{method.equation}`. Unit: {method.unit}.\n"
        )
        options = method.options()
        if options:
            rows = [
                f"| `--{one.name.replace('_', '-')}` | {_default(one)} | {_allowed(one)} | {one.help} |"
                for one in options
            ]
            parts.append("\n".join(["| option | default | allowed | what |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _default(one: Option) -> str:
    return "chosen" if one.default is None else f"{one.default}"


def _allowed(one: Option) -> str:
    if one.choices:
        return ", ".join(one.choices)
    if one.low == -math.inf:
        return "text" if one.kind is str else "any"
    high = "" if one.high > _UNBOUNDED else f" to {one.high:.15g}"
    return f"{one.low:.15g}{high or ' or more'}" + (f" {one.unit}" if one.unit else "")
