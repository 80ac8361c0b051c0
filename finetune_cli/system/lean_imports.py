"""Import torch and transformers without the large libraries that they import only in case they are needed.

transformers looks once for each optional library, imports it when it is there, and remembers the answer: tables, losses
for images, process groups. torch and transformers both import torch's compiler, for decorators. Together that is more
than half of all modules, and half of the 3.5 seconds that the imports before a training take.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from finetune_cli.system import xla
from finetune_cli.system.plain_imports import reason_for_plain_imports
from finetune_cli.system.scan_once import scan_model_files_once
from finetune_cli.system.stand_ins import COMPILER, SHARDED_TENSORS, install_stand_ins

logger = logging.getLogger(__name__)

UNUSED_BY_TRANSFORMERS = ("datasets", "scipy", "sklearn", "peft")


@contextmanager
def lean_imports(*, adapters: bool = False, compiler: bool = False) -> Iterator[None]:
    """In this block, import little more of torch and transformers than a model needs. Only for a command's own process.

    From then on transformers takes the optional libraries for not installed, and torch for built without process
    groups. Other code that imports these libraries after the block gets them as usual. A part of torch that was left
    out is loaded when somebody needs it, as torch.compile does.
    adapters: keep peft, for LoRA. compiler: keep the marks that functions carry for torch.compile. Nothing is left out
    when `reason_for_plain_imports` has a reason.
    """
    xla.settle()
    if reason := reason_for_plain_imports():
        logger.debug("Imports leave nothing out: %s", reason)
        with without_garbage_collection():
            yield
        return
    names = [name for name in UNUSED_BY_TRANSFORMERS if name not in sys.modules and not (adapters and name == "peft")]
    with _not_installed(names), without_garbage_collection():
        import torch

        scan_model_files_once()
        install_stand_ins(SHARDED_TENSORS if compiler else COMPILER | SHARDED_TENSORS)
        with _without_process_groups(torch.distributed):
            yield
            _let_transformers_look_for(names)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import in this block without the garbage collector, which takes a quarter of the time and frees next to nothing.

    New modules stay for good, so later collections leave them out, too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextmanager
def _not_installed(names: Sequence[str]) -> Iterator[None]:
    """In this block, importing one of these libraries fails as if it were not installed."""
    missing: dict[str, Any] = dict.fromkeys(names)  # None in sys.modules makes Python raise ImportError
    sys.modules.update(missing)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


@contextmanager
def _without_process_groups(distributed: Any) -> Iterator[None]:
    is_available, distributed.is_available = distributed.is_available, lambda: False
    try:
        yield
    finally:
        distributed.is_available = is_available


def _let_transformers_look_for(libraries: Sequence[str]) -> None:
    """Have transformers remember that these are not there. It may not have looked for all of them so far."""
    from transformers.utils import import_utils

    for name in (*libraries, "torch_distributed"):
        getattr(import_utils, f"is_{name}_available")()
