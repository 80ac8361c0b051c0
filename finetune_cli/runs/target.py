"""What `evaluate` and `predict` are pointed at: a config, a run directory, or a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.config.shipped import names_a_config
from finetune_cli.errors import ConfigError, MissingError, did_you_mean
from finetune_cli.models import files, resolving
from finetune_cli.models.runtimes import MANIFEST, RUN_CONFIG, runtime_of
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.places import in_home
from finetune_cli.tasks import KIND_SPECS, TASKS, Kind

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

USUAL_ID_COLUMNS = (*(task.text for task in TASKS.values() if task.text), ("text",))


@dataclass(frozen=True)
class Target:
    """A trained model and, when it comes from a run or is an export of one, that run's config."""

    model_dir: Path
    config: RunConfig | None = None
    run: RunDir | None = None

    @property
    def trust_remote_code(self) -> bool:
        """Whether the run's config lets the model bring code of its own."""
        return self.config is not None and self.config.model.trust_remote_code

    @property
    def id_column(self) -> str | None:
        """The column that names the rows, where the run's config has one."""
        return self.config.data.id if self.config else None

    def load(self, device: torch.device) -> PreTrainedModel:
        """The model, ready to answer: as its run trained it, or as it was exported."""
        from finetune_cli.models.exported import load_answering

        dtype = "fp32" if self.run is None or self.config is None else answering_dtype(self.config)
        return load_answering(self.model_dir, device, trust_remote_code=self.trust_remote_code, dtype=dtype)


def answering_dtype(config: RunConfig) -> str:
    """Of the body when it answers, see models.storage: that of its training, where 4 bits are merged into bf16."""
    return "fp32" if config.model.dtype == "fp32" else "bf16"


def prepare_to_answer(config: RunConfig | None, device: torch.device) -> torch.dtype | None:
    """Set up the device as for training, and return the type for autocast; None for the weights' own fp32.

    config: of the run that trained the model. A model without run (a Hub id or a directory) answers as
    `training.precision: auto` would train it.
    """
    from finetune_cli.training.device_settings import apply_device_settings, choose_device_settings
    from finetune_cli.training.precision import inference_dtype

    requested = config.training.precision if config else "auto"
    settings = choose_device_settings(device.type, precision=requested, mixed_precision="no", compile_model=False)
    apply_device_settings(settings)
    narrow = config is not None and config.model.dtype != "fp32"
    return inference_dtype(requested, device.type, narrow_weights=narrow)


def open_target(
    name: str | Path, overrides: Sequence[str] = (), *, output_dir: str | None = None, offline: bool = False
) -> Target:
    """Find the model that `name` stands for: CONFIG (a YAML file), RUN (a run directory), or MODEL (directory, Hub id).

    overrides: `--set` values on top of the config, the run's own when `name` is a run.
    Raises MissingError when the run has not been trained, ConfigError for settings that need a config.
    """
    path, name = in_home(name), str(name)
    if names_a_config(name):
        arguments = [*overrides, *([] if output_dir is None else [f"output_dir={json.dumps(output_dir)}"])]
        config = load_config(path, arguments)
        return _run_target(RunDir(config.output_dir), config, f"finetune train {name}")
    run = RunDir(path)
    if run.config.is_file():
        return _run_target(run, load_config(run.config, overrides), f"finetune train {run.config}")
    if (path / MANIFEST).is_file() and (path / RUN_CONFIG).is_file():
        own = [f"model.name_or_path={json.dumps(str(path))}"]
        return Target(path, load_config(path / RUN_CONFIG, [*overrides, *own]))
    if overrides:
        raise ConfigError(f"--set changes a config, and {name} is a model without one. Leave it out, or name a run.")
    if path.is_dir() and not files.looks_like_model(path):
        raise MissingError(f"{name} is neither a run (no config.yaml) nor a model (no config.json). Name one of these.")
    if not path.exists() and path.name != str(path) and path.parent.is_dir():
        raise MissingError(f"{name} does not exist.{_similar(path)} Expected a run or a model in {path.parent}/.")
    if runtime_of(path) is not None:
        return Target(path)
    try:
        return Target(resolving.resolve_model(name, offline=offline, key="CONFIG|RUN|MODEL"))
    except MissingError as err:
        raise MissingError(f"{err}{'' if path.exists() else _similar(path)}") from err


def is_local(name: str) -> bool:
    """Whether a target can be judged without the Hub: it is here, or it names a place that is."""
    path = in_home(name)
    return names_a_config(name) or path.exists() or (path.name != name and path.parent.is_dir())


def _similar(path: Path) -> str:
    """A hint at the run whose name is nearest, beside `path` or in runs/."""
    folders = (path.parent, Path("runs"))
    runs = {file.parent.name: file.parent for folder in reversed(folders) for file in folder.glob("*/config.yaml")}
    return did_you_mean(path.name, runs, shown=runs.__getitem__)


def _run_target(run: RunDir, config: RunConfig, command: str) -> Target:
    run.require_one_run()
    if not (run.model / "config.json").is_file():
        raise MissingError(f"{run.path} has no finished model yet. Train it first: {command}")
    return Target(run.model, config, run)


@dataclass(frozen=True)
class ModelTask:
    """What a model answers to a row: one class, any number of them, or a number.

    classes: their names in the order of the model's outputs; None when it predicts a number.
    """

    kind: Kind
    classes: tuple[str, ...] | None


def model_task(model: PreTrainedModel) -> ModelTask:
    config = model.config
    if config.problem_type == "regression" or config.num_labels == 1:
        return ModelTask("regression", None)
    named = (kind for kind, spec in KIND_SPECS.items() if spec.problem_type == config.problem_type)
    return ModelTask(next(named, "classification"), tuple(config.id2label[n] for n in range(config.num_labels)))


def text_columns(target: Target, present: Sequence[str]) -> tuple[str, ...]:
    """The text columns to read: the config's, or for a bare model the usual ones that the data have."""
    if target.config is not None:
        return target.config.data.text
    fitting = [columns for columns in USUAL_ID_COLUMNS if set(columns) <= set(present)]
    if not fitting:
        usual = ", ".join(sorted({" + ".join(columns) for columns in USUAL_ID_COLUMNS}))
        raise ConfigError(
            f"This model comes without a config, so the text columns must have a usual name ({usual}); found "
            f"{', '.join(present)}. Rename them, or name the run instead of the model."
        )
    return max(fitting, key=len)
