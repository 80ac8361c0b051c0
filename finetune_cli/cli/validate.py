"""`finetune validate`."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError, MissingError

logger = logging.getLogger(__name__)

EXAMPLES = """\
finetune validate configs/mrpc.yaml
finetune validate configs/mrpc.yaml -s training.batch_size=16 --json
finetune validate configs/*.yaml"""

Configs = Annotated[list[Path], options.argument("CONFIG...", "The YAML files that describe runs.")]
OnlyRunConfigs = Annotated[
    bool,
    options.option(
        "--only-run-configs",
        "Pass over files that are no run config (no task or base at their top), for hooks that name every YAML file.",
    ),
]


@command()
def validate(
    out: Output,
    *,
    configs: Configs,
    only_run_configs: OnlyRunConfigs = False,
    overrides: options.Overrides,
) -> None:
    """Show every mistake in a config at once, in a moment. The data are not read: `finetune prepare` does that."""
    if out.as_json and len(configs) > 1:
        raise ConfigError(f"--json shows one config, and {len(configs)} are named. Name one.")
    from finetune_cli.config.text import is_run_config

    failed = [
        error
        for path in configs
        if not only_run_configs or is_run_config(path)
        if (error := _mistakes(out, path, overrides))
    ]
    if failed:
        problems = tuple(problem for error in failed for problem in error.problems)
        raise ConfigError("\n".join(map(str, failed)), problems)


def _mistakes(out: Output, path: Path, overrides: list[str]) -> ConfigError | None:
    """Check one config and say so; its mistakes as an error, if there are any."""
    from finetune_cli.config.load import load_config

    try:
        checked = load_config(path, overrides)
    except ConfigError as err:
        if out.as_json:
            out.json({"valid": False, "problems": [asdict(problem) for problem in err.problems], "config": None})
        return err
    if out.as_json:
        from finetune_cli.config.dump import plain_values

        out.json({"valid": True, "problems": [], "config": plain_values(checked)})
    else:
        out.line(f"{path} is valid.")
    if checked.model.name_or_path is not None:
        _warn_of_model(checked.model.name_or_path)
    return None


def _warn_of_model(name: str) -> None:
    """Say what a glance at the model's files shows: the config is right all the same, perhaps for another machine."""
    from finetune_cli.models.resolving import require_present

    try:
        require_present(name)
    except MissingError as err:
        logger.warning("%s", err)
