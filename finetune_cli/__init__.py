"""Fine-tune text classifiers from one YAML file. The command line's verbs are functions here, loaded when asked for."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune_cli.commands.evaluate import evaluate
    from finetune_cli.commands.predict import predict
    from finetune_cli.commands.prepare import prepare
    from finetune_cli.commands.train import train
    from finetune_cli.config.load import load_config

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load_config", "predict", "prepare", "train"]

_HOMES = {
    "evaluate": "finetune_cli.commands.evaluate",
    "load_config": "finetune_cli.config.load",
    "predict": "finetune_cli.commands.predict",
    "prepare": "finetune_cli.commands.prepare",
    "train": "finetune_cli.commands.train",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent in processes that nobody reads


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("finetune_cli.system.xla").settle()  # before Accelerate is imported
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
