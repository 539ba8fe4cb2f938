"""The configuration of a MONAI bundle as data: references are followed, nothing in it is run. No torch.

Understood are ``@key`` and ``@a#b`` (also ``@a::b``), and of ``$`` expressions only: values and lists chosen by a flag
(``$@a if @flag else @b``), ``len`` of a list, paths and lists put together (``$@bundle_root + '/models/model.pt'``), and the
names of number types (``$torch.float32``). They are read by a small interpreter of the syntax tree; ``eval`` is not used.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models.metadata import metadata_file, read_json, read_small

#: Names of the configuration that a bundle predicts with, beside its metadata.
INFERENCE_FILES = ("inference.json", "inference.yaml", "inference.yml")

_MAX_VALUES = 100_000
_MAX_DEPTH = 64
_MAX_TEXT = 2_000
_SHOWN = 80
_REFERENCE = re.compile(r"@(\w*(?:(?:#|::)\w+)*)")
_NUMBER_TYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "float",
    "int",
    "long",
)
_TYPE_NAMES = {"float": "float32", "int": "int64", "long": "int64"}
_MODULES = ("torch", "np", "numpy")
_ABSENT: Any = object()


def inference_file(folder: Path) -> Path | None:
    """Return the configuration that a bundle predicts with, or ``None``."""
    metadata = metadata_file(folder)
    if metadata is None:
        return None
    return next((metadata.parent / name for name in INFERENCE_FILES if (metadata.parent / name).is_file()), None)


def read_config(folder: Path) -> BundleConfig:
    """Read the inference configuration of a bundle.

    Raises
    ------
    InputError
        When it is missing, damaged, too large, or nested without end.
    """
    path, metadata = inference_file(folder), metadata_file(folder)
    if path is None or metadata is None:
        raise InputError(
            f"{folder}: has no {INFERENCE_FILES[0]} beside its metadata.json, so how it predicts is not known"
        )
    content = read_json(path) if path.suffix == ".json" else _read_yaml(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: is no inference configuration (a mapping is expected)")
    _check_size(content, path)
    # MONAI sets it on loading too, whatever the file says.
    return BundleConfig({**content, "bundle_root": ".", "_meta_": read_json(metadata)}, path)


@dataclass(frozen=True, eq=False)
class BundleConfig:
    """A parsed configuration.

    Attributes
    ----------
    content : mapping
        As in the file.
    path : Path
        The file, named in errors.
    """

    content: Mapping[str, Any]
    path: Path

    def has(self, key: str) -> bool:
        """Tell whether a key such as ``"evaluator#inferer"`` stands in the file."""
        return self._raw(key) is not _ABSENT

    def raw(self, key: str) -> Any:
        """Return what stands at a key, as in the file; ``None`` when it is absent."""
        found = self._raw(key)
        return None if found is _ABSENT else found

    def at(self, key: str) -> Any:
        """Return what stands at a key, references followed at its top; ``None`` when it is absent.

        Raises
        ------
        InputError
            Code, or a reference that leads nowhere.
        """
        raw = self._raw(key)
        return None if raw is _ABSENT else self.value(raw, key)

    def value(self, raw: Any, where: str, depth: int = 0) -> Any:
        """Follow references at the top of a value; what is inside of lists and mappings stays as in the file.

        Raises
        ------
        InputError
            Code, or a reference that leads nowhere.
        """
        if depth > _MAX_DEPTH:
            raise InputError(f"{self.path}: {where}: its references go round in a circle")
        if not isinstance(raw, str):
            return raw
        if raw.startswith(("%", "@#", "@::")):
            raise self.refusal(where, raw, "copies text from elsewhere")
        if raw.startswith("$"):
            return self._expression(raw, where, depth)
        if _REFERENCE.fullmatch(raw) and len(raw) > 1:
            return self._reference(raw[1:], where, depth)
        return raw

    def plain(self, raw: Any, where: str, depth: int = 0) -> Any:
        """Return a value of numbers, texts, lists and mappings, all references in it followed.

        Raises
        ------
        InputError
            Code, a component that would have to be made, or a reference that leads nowhere.
        """
        if depth > _MAX_DEPTH:
            raise InputError(f"{self.path}: {where}: is nested too deeply")
        found = self.value(raw, where)
        if isinstance(found, Mapping):
            if "_target_" in found:
                raise InputError(
                    f"{self.path}: {where}: {str(found['_target_'])[:_SHOWN]} is not made here; it cannot be used"
                )
            return {str(key): self.plain(item, f"{where}#{key}", depth + 1) for key, item in found.items()}
        if isinstance(found, (list, tuple)):
            return [self.plain(item, f"{where}#{number}", depth + 1) for number, item in enumerate(found)]
        return found

    def components(self, raw: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any], str]]:
        """Yield (name, arguments, where) of a list of components, or of a ``Compose`` of one, without disabled ones.

        Raises
        ------
        InputError
            A component that is no class of MONAI, named.
        """
        found = self.value(raw, where)
        if isinstance(found, Mapping) and "_target_" in found:
            name, arguments = self.component(found, where)
            if self.disabled(found, where):
                return
            if name == "Compose":
                self._check_compose(arguments, where)
                yield from self.components(arguments.get("transforms", []), f"{where}#transforms")
            else:
                yield name, arguments, where
            return
        if found is None:
            return
        if not isinstance(found, (list, tuple)):
            raise InputError(f"{self.path}: {where}: must be a list of transforms, not {str(found)[:_SHOWN]!r}")
        for number, item in enumerate(found):
            yield from self.components(item, f"{where}#{number}")

    def component(self, raw: Any, where: str) -> tuple[str, Mapping[str, Any]]:
        """Return the name of MONAI's class and the arguments, as in the file, of a component.

        Raises
        ------
        InputError
            A class of another package or of the bundle's own scripts, named.
        """
        found = self.value(raw, where)
        target = found.get("_target_") if isinstance(found, Mapping) else None
        if not isinstance(target, str):
            raise InputError(f"{self.path}: {where}: names no _target_")
        if target.startswith(("$", "@", "%")):
            raise self.refusal(f"{where}#_target_", target, "decides what is made")
        if "." in target and not target.startswith("monai."):
            raise InputError(
                f"{self.path}: {where}: {target[:_SHOWN]} is code of the bundle's own, which is not run; "
                "only MONAI's own classes are known here"
            )
        if found.get("_mode_", "default") != "default":
            raise InputError(f"{self.path}: {where}: _mode_ {str(found['_mode_'])[:_SHOWN]!r} is not supported")
        arguments = {str(key): value for key, value in found.items() if not str(key).startswith("_")}
        return target.rpartition(".")[2], arguments

    def disabled(self, found: Mapping[str, Any], where: str) -> bool:
        """Tell whether a component is switched off.

        Raises
        ------
        InputError
            Code decides that.
        """
        value = self.value(found.get("_disabled_", False), f"{where}#_disabled_")
        return value is True or str(value).strip().lower() == "true"

    def refusal(self, where: str, text: str, why: str) -> InputError:
        """Return the error for code."""
        return InputError(
            f"{self.path}: {where} {why} by code ({text[:_SHOWN]!r}), which is not run; only references, choices by a flag, "
            "len and paths in the bundle are read"
        )

    def _check_compose(self, arguments: Mapping[str, Any], where: str) -> None:
        for key, value in arguments.items():
            if key != "transforms" and self.plain(value, f"{where}#{key}") not in (None, False, True):
                raise InputError(f"{self.path}: {where}: {key} of Compose is not supported")
        if self.plain(arguments.get("lazy", False), where):
            raise InputError(f"{self.path}: {where}: lazy resampling of Compose is not supported")

    def _raw(self, key: str) -> Any:
        found: Any = self.content
        for part in re.split("#|::", key):
            if isinstance(found, str):
                found = self.value(found, key)
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, (list, tuple)) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                return _ABSENT
        return found

    def _reference(self, key: str, where: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise InputError(f"{self.path}: {where}: its references go round in a circle")
        try:
            raw = self._raw(key)
        except RecursionError:
            raise InputError(f"{self.path}: {where}: its references go round in a circle") from None
        if raw is _ABSENT:
            raise InputError(f"{self.path}: {where}: refers to @{key[:_SHOWN]}, which is not in the file")
        return self.value(raw, where, depth + 1)

    def _expression(self, text: str, where: str, depth: int) -> Any:
        names: dict[str, str] = {}

        def placed(match: re.Match[str]) -> str:
            names[f"_reference_{len(names)}"] = match.group(1)
            return f" _reference_{len(names) - 1} "

        code = self.refusal(where, text, "is decided")
        if len(text) > _MAX_TEXT:
            raise code
        try:
            tree = ast.parse(_REFERENCE.sub(placed, text[1:]).strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise code from None
        return self._evaluated(tree, names, where, depth, code)

    def _evaluated(self, node: ast.AST, names: Mapping[str, str], where: str, depth: int, code: InputError) -> Any:
        def inner(part: ast.AST) -> Any:
            return self._evaluated(part, names, where, depth + 1, code)

        if depth > _MAX_DEPTH:
            raise code
        found: Any = _ABSENT
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
                found = value
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                found = [inner(part) for part in parts]
            case ast.Name(id=name) if name in names:
                found = self._reference(names[name], where, depth + 1)
            case ast.UnaryOp(op=ast.Not(), operand=part):
                found = not inner(part)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(value, (int, float)):
                found = -value
            case ast.IfExp(test=test, body=body, orelse=other):
                found = inner(body if inner(test) else other)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                found = _joined(inner(left), inner(right))
            case ast.Call(func=ast.Name(id="len"), args=[part], keywords=[]):
                counted = inner(part)
                found = len(counted) if isinstance(counted, (list, Mapping)) else _ABSENT
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in _MODULES and name in _NUMBER_TYPES:
                found = _TYPE_NAMES.get(name, name)
        if found is _ABSENT:
            raise code
        return found


def _joined(left: Any, right: Any) -> Any:
    """Put two texts or two lists together."""
    alike = (isinstance(left, str) and isinstance(right, str)) or (isinstance(left, list) and isinstance(right, list))
    return left + right if alike and len(left) + len(right) <= _MAX_TEXT else _ABSENT


def _read_yaml(path: Path) -> Any:
    import yaml

    raw = read_small(path)
    try:
        return yaml.safe_load(raw.decode("utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not valid YAML of plain values ({first})") from None


def _check_size(content: Any, path: Path) -> None:
    """Refuse what aliases of YAML make of a small file: values without end, or round in a circle."""
    pending, seen = [(content, 0)], 0
    while pending:
        value, depth = pending.pop()
        seen += 1
        if seen > _MAX_VALUES or depth > _MAX_DEPTH:
            raise InputError(f"{path}: holds more values than a configuration has")
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        pending += [(item, depth + 1) for item in inside]
