"""What leaves an explanation for other programs: DICOM objects for an archive, a page for a browser, a view in a notebook."""

from __future__ import annotations

from typing import Any

__all__ = ["view", "write_dicom", "write_page"]

_MODULES = {"view": "notebook", "write_dicom": "dicom", "write_page": "page"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"Agg2ExpLib.export.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
