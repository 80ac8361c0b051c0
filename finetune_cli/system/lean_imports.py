"""Importing torch and transformers without what they take along in case it is used, and which here it is not.

transformers looks once for each optional library, imports those it finds, and keeps to the answer: tables, losses of
images, process groups. Both import torch's compiler for marks on functions, and its symbolic shapes for a comparison.
That is more than half of all modules, and half of the 3.5 seconds that imports take before a training.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from operator import eq
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from finetune_cli.system.launching import launched_processes

Structure = dict[frozenset[str], dict[str, set[str]]]  # libraries that are needed -> module -> what it defines

UNUSED_BY_TRANSFORMERS = ("datasets", "scipy", "sklearn", "peft")


@contextmanager
def lean_imports(*, adapters: bool = False, compiler: bool = False) -> Iterator[None]:
    """In this block torch and transformers import little more than models need. For the process of a command alone.

    transformers takes the optional libraries for not installed from then on, and in a process without companions torch
    for a build without process groups. Whoever else imports them after the block gets them as ever; parts of torch that
    were left out are loaded when more than their stand-ins can do is asked of them, as by torch.compile.
    adapters: keep peft, for LoRA. compiler: keep the marks that functions carry for torch.compile. Nothing is left out
    when torch was imported before.
    """
    if "torch" in sys.modules:
        yield
        return
    hidden = [name for name in UNUSED_BY_TRANSFORMERS if name not in sys.modules and not (adapters and name == "peft")]
    absent: dict[str, Any] = dict.fromkeys(hidden)  # None is Python's own sign for what cannot be imported
    sys.modules.update(absent)
    try:
        with without_collections():
            import torch

            alone = _is_alone()
            sys.meta_path[:0] = [_SubmoduleFinder(), _ScanFinder()]
            for name, known in {**({} if compiler else _OF_COMPILER), **(_OF_GROUPS if alone else {})}.items():
                if name not in sys.modules:
                    _stand_in(name, known)
            with _without_process_groups(torch.distributed) if alone else nullcontext():
                yield
                _let_transformers_look(hidden)
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def without_collections() -> Iterator[None]:
    """Imports in this block without the garbage collector, which finds next to nothing in new modules and takes a
    quarter of the time. What was imported stays for good and is left out of later collections, too."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _is_alone() -> bool:
    """No launcher has started this process, neither as one of several nor to shard a model."""
    return launched_processes() == 1 and not any(name.startswith("ACCELERATE_USE_") for name in os.environ)


@contextmanager
def _without_process_groups(distributed: Any) -> Iterator[None]:
    is_available, distributed.is_available = distributed.is_available, lambda: False
    try:
        yield
    finally:
        distributed.is_available = is_available


def _let_transformers_look(hidden: Sequence[str]) -> None:
    """For what no module has looked for so far: later it would be found."""
    from transformers.utils import import_utils

    for name in (*hidden, "torch_distributed"):
        getattr(import_utils, f"is_{name}_available")()


def _stand_in(name: str, known: Mapping[str, Any]) -> None:
    """Where an import finds it, and as the attribute of its package that an import makes it: peft looks there."""
    sys.modules[name] = module = _LoadedLater(name, known)
    package, _, attribute = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], attribute, module)


class _LoadedLater(ModuleType):
    """Stands for a module and answers with `known`; whatever else it is asked for loads the module in its place."""

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)
        self._known = tuple(known)
        self.__path__: list[str] = []  # as of a package: `from NAME import ...` looks for it

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return getattr(self.give_way(), attribute)

    def give_way(self) -> ModuleType:
        """Load the module and answer as it does from now on."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            importlib.import_module(self.__name__)
            for known in self._known:
                delattr(self, known)
        return sys.modules[self.__name__]


class _SubmoduleFinder(MetaPathFinder):
    """Before a submodule of a package that has a stand-in is imported, the package is, which may import it itself."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package = fullname.rpartition(".")[0]
        stand_in = sys.modules.get(package)
        if not isinstance(stand_in, _LoadedLater):
            return None
        if fullname in _WITHOUT_THEIR_PACKAGE:
            file = Path(sys.modules["torch"].__path__[0], *fullname.split(".")[1:]).with_suffix(".py")
            return importlib.util.spec_from_file_location(fullname, file)
        stand_in.give_way()
        return importlib.util.spec_from_loader(fullname, _AsItIs(importlib.import_module(fullname)))


class _AsItIs(Loader):
    """For a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _ScanFinder(MetaPathFinder):
    """Has transformers read its model files once to learn what they define; it does so twice, a quarter of a second."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "transformers.utils.import_utils":
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ScanningOnce(spec.loader)
        return spec


class _ScanningOnce(Loader):
    """The module's own loader, and what the module then knows kept from call to call."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        module.define_import_structure = _remembering(module.define_import_structure)


def _remembering(define: Callable[[Any], Structure]) -> Callable[..., Structure]:
    """transformers' define_import_structure, with a memory of the folders that it has read."""
    known: dict[str, Structure] = {}

    def define_import_structure(module_path: str | Path, prefix: str | None = None) -> Structure:
        folder = os.path.dirname(module_path) if os.path.isfile(module_path) else os.fspath(module_path)
        if folder not in known:
            known[folder] = define(folder)
        before = f"{prefix}." if prefix else ""
        return {
            needed: {f"{before}{name}": set(objects) for name, objects in modules.items()}
            for needed, modules in known[folder].items()
        }

    return define_import_structure


class _Nothing:
    """A class without instances."""


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without options, for a compiler that is not there."""
    return function if callable(function) else lambda decorated: decorated


_OF_COMPILER: dict[str, dict[str, Any]] = {
    "torch._dynamo": {
        **dict.fromkeys(("disable", "allow_in_graph", "assume_constant_result"), _unmarked),
        "graph_break": lambda: None,  # torch's optimizers, in each step
        "eval_frame": SimpleNamespace(OptimizedModule=_Nothing),  # Accelerate asks whether a model is compiled
    },
    # torch checks arguments and strides with these where it works in Python, as for weights on the device "meta".
    "torch.fx.experimental.symbolic_shapes": {
        **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious"), bool),
        "sym_eq": eq,
        "is_nested_int": lambda size: not isinstance(size, int) and size.node.is_nested_int(),
    },
}
# Needed at import by transformers, for a class that it uses with torch.compile alone.
_WITHOUT_THEIR_PACKAGE = {"torch._dynamo._trace_wrapped_higher_order_op"}
_OF_GROUPS: dict[str, dict[str, Any]] = {
    "torch.distributed.tensor": {"DTensor": _Nothing},  # Accelerate asks whether weights are shared out
}
