"""transformers reads all of its model files to learn what they define, and does so twice. Here once: 0.25 s less."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

Structure = dict[frozenset[str], dict[str, set[str]]]  # libraries that are needed -> module -> the names it defines

SCANNING_MODULE = "transformers.utils.import_utils"


def scan_model_files_once() -> None:
    """From now on, when transformers is imported, it remembers what it found in a folder."""
    sys.meta_path.insert(0, _ScanFinder())


class _ScanFinder(MetaPathFinder):
    """Finds the module that scans; when it is loaded, its function that scans is replaced."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != SCANNING_MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_replace(module: Any) -> None:
                load(module)
                module.define_import_structure = _with_memory(module.define_import_structure)

            spec.loader.exec_module = load_and_replace  # type: ignore[method-assign]
        return spec


def _with_memory(scan: Callable[[Any], Structure]) -> Callable[..., Structure]:
    """transformers' define_import_structure, which then reads each folder once."""
    structures: dict[str, Structure] = {}

    def define_import_structure(module_path: str | Path, prefix: str | None = None) -> Structure:
        folder = os.path.dirname(module_path) if os.path.isfile(module_path) else os.fspath(module_path)
        if folder not in structures:
            structures[folder] = scan(folder)
        start = f"{prefix}." if prefix else ""
        return {
            libraries: {f"{start}{module}": set(names) for module, names in modules.items()}
            for libraries, modules in structures[folder].items()
        }

    return define_import_structure
