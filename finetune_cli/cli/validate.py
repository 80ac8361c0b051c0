"""`finetune validate`."""

from __future__ import annotations

import logging

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import start
from finetune_cli.errors import ConfigError, MissingError

logger = logging.getLogger(__name__)

EXAMPLES = """\
finetune validate configs/mrpc.yaml
finetune validate configs/mrpc.yaml -s training.batch_size=16 --json"""


def validate(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show every mistake in a config at once, in a moment."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    from finetune_cli.config.load import load_config
    from finetune_cli.display.tables.validate import validate_result

    try:
        checked = load_config(config, overrides)
    except ConfigError as err:
        if json:
            validate_result(out, config, None, err.problems)
        raise
    validate_result(out, config, checked, ())
    if checked.model.name_or_path is not None:
        _warn_of_model(checked.model.name_or_path)


def _warn_of_model(name: str) -> None:
    """Say what a glance at the model's files shows: the config is right all the same, perhaps for another machine."""
    from finetune_cli.models.files import require_present

    try:
        require_present(name)
    except MissingError as err:
        logger.warning("%s", err)
