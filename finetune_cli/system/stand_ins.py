"""Small modules in the place of large ones of torch, until something needs the large one.

torch, transformers and Accelerate import torch's compiler and its sharded tensors for little: decorators that mark
functions for torch.compile, and classes for `isinstance`. A stand-in has these. Asked for anything else, it loads the
real module: torch.compile works as usual.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import eq
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class _NeverAnInstance:
    """Nothing is an instance of this class."""


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without options, that returns the function as it is."""
    return function if callable(function) else lambda decorated: decorated


COMPILER: dict[str, dict[str, Any]] = {
    "torch._dynamo": {
        **dict.fromkeys(("disable", "allow_in_graph", "assume_constant_result"), _unchanged),
        "graph_break": lambda: None,  # torch's optimizers call it in each step
        "eval_frame": SimpleNamespace(OptimizedModule=_NeverAnInstance),  # Accelerate asks whether a model is compiled
    },
    # torch checks arguments and strides with these where it works in Python, as for weights on the device "meta".
    "torch.fx.experimental.symbolic_shapes": {
        **dict.fromkeys(("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious"), bool),
        "sym_eq": eq,
        "is_nested_int": lambda size: not isinstance(size, int) and size.node.is_nested_int(),
    },
}
SHARDED_TENSORS: dict[str, dict[str, Any]] = {
    "torch.distributed.tensor": {"DTensor": _NeverAnInstance},  # Accelerate asks whether weights are sharded
}
# transformers imports this submodule for a class that it uses with torch.compile alone. Its package is not needed then.
IMPORTED_WITHOUT_PACKAGE = {"torch._dynamo._trace_wrapped_higher_order_op"}


def install_stand_ins(modules: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a stand-in in the place of each module that was not imported so far. torch itself must be imported.

    modules: name -> the attributes that the stand-in answers with.
    """
    sys.meta_path.insert(0, _SubmoduleFinder())
    for name, attributes in modules.items():
        if name in sys.modules:
            continue
        sys.modules[name] = module = StandIn(name, attributes)
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:  # an import sets this attribute, too, and peft looks there
            setattr(sys.modules[package], attribute, module)


class StandIn(ModuleType):
    """Answers for a module with a few attributes. Whoever asks for another attribute gets that of the real module."""

    def __init__(self, name: str, attributes: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(attributes)
        self._replaced = tuple(attributes)
        self.__path__: list[str] = []  # only a package may have submodules

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {attribute!r}")
        return getattr(self.load(), attribute)

    def load(self) -> ModuleType:
        """Import the real module, which answers from now on, also to those who hold this stand-in."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            importlib.import_module(self.__name__)
            for attribute in self._replaced:
                delattr(self, attribute)
        return sys.modules[self.__name__]


class _SubmoduleFinder(MetaPathFinder):
    """Loads the real package before one of its submodules is imported, where a stand-in has the package's place."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package = sys.modules.get(fullname.rpartition(".")[0])
        if not isinstance(package, StandIn):
            return None
        if fullname in IMPORTED_WITHOUT_PACKAGE:
            file = Path(sys.modules["torch"].__path__[0], *fullname.split(".")[1:]).with_suffix(".py")
            return importlib.util.spec_from_file_location(fullname, file)
        package.load()  # may import the submodule itself
        return importlib.util.spec_from_loader(fullname, _ImportedModuleLoader(importlib.import_module(fullname)))


class _ImportedModuleLoader(Loader):
    """Gives the import system a module that was imported already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec
