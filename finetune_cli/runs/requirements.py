"""What a training needs beside rows and model, asked for before any work, and before torch is imported."""

from __future__ import annotations

from finetune_cli.config.fields import RunConfig, SweepConfig
from finetune_cli.errors import ConfigError
from finetune_cli.runs.hub import require_place
from finetune_cli.runs.tracking import require_trackers
from finetune_cli.system.machine import require_extra


def require_tools(config: RunConfig, *, push: bool) -> None:
    """Raise ConfigError for an upload without a place, MissingError for a library that is not installed: of trackers,
    adapters, or weights in 4 bits."""
    require_place(config.hub, push=push)
    require_trackers(config.tracking)
    if config.model.lora is not None:
        require_extra("peft", "lora", "model.lora")
    if config.model.dtype == "nf4":
        require_extra("bitsandbytes", "qlora", "model.dtype: nf4", otherwise=" Without it: -s model.dtype=bf16")


def require_search(config: RunConfig) -> SweepConfig:
    """The section `sweep`. Raises ConfigError, which shows one, when the config has none, and MissingError without the
    library that searches."""
    if config.sweep is None:
        raise ConfigError(
            "The config has no section sweep, so there is nothing to search. Write, for example:\n"
            "  sweep:\n    parameters:\n      training.learning_rate: {low: 1e-5, high: 1e-4, log: true}\n"
            "      training.batch_size: [8, 16, 32]\n    trials: 20\n"
            "or name a file with this section: --search FILE."
        )
    require_extra("optuna", "sweep", "finetune sweep")
    return config.sweep
