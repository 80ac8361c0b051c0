"""How `train` begins: what is in the run directory, and what of it this run may go on from."""

from __future__ import annotations

from pathlib import Path

from finetune_cli.config.dump import to_yaml
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError
from finetune_cli.models import files, resolving
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import run_differences
from finetune_cli.system.files import write_text
from finetune_cli.system.launching import is_main_process
from finetune_cli.system.places import in_home


def open_run(context: RunContext, *, resume: str, overwrite: bool) -> tuple[bool, Path | None]:
    """Whether the run is finished already, and the checkpoint to continue from; refuses another config or data."""
    run, config, checkpoints = context.run, context.config, context.checkpoints()
    if run.members() and not overwrite:
        raise ConfigError(
            f"{run.path} holds several runs, such as {run.members()[0].path.name}. Choose another directory with "
            "--output-dir, or delete those runs with --overwrite."
        )
    named = None if resume in ("auto", "never") else checkpoints.undamaged(in_home(resume))
    if named and overwrite:
        raise ConfigError(f"--overwrite would delete this run's checkpoints, and --resume {named} needs one. Drop one.")
    if run.holds_work() and not overwrite:
        _require_same_run(context)
        finished = run.read_record().is_finished
        if finished and resume == "never":
            raise ConfigError(f"{run.path} holds a finished run. To train it anew from the start, say --overwrite.")
        if finished and named is None:
            _keep_config(run, config)
            return True, None
    if overwrite or resume == "never":
        run.clear()
    _keep_config(run, config)
    checkpoint = named or checkpoints.newest()
    if checkpoint is not None and config.model.dtype == "nf4":
        _require_same_body(context)
    return False, checkpoint


def _keep_config(run: RunDir, config: RunConfig) -> None:
    """Write config.yaml; one that says the same already is left alone."""
    text = to_yaml(config)
    if not run.config.is_file() or run.config.read_bytes() != text.encode():
        write_text(run.config, text)


def _require_same_run(context: RunContext) -> None:
    """Refuse to mix two runs in one directory; see `run_differences`."""
    run = context.run
    differences = run_differences(load_config(run.config), context.config)
    key = run.read_record().fingerprints.data
    if key not in (None, context.prepared.key) and not differences:
        differences = ["  the rows, the tokenizer or the way that texts are encoded have changed"]
    if differences:
        raise ConfigError(
            f"{run.path} holds a run with another config or other data:\n"
            + "\n".join(differences)
            + "\nChoose another directory with --output-dir, or delete that run and start anew with --overwrite."
        )


def _require_same_body(context: RunContext) -> None:
    """Refuse to go on beside another body than the run began with: its checkpoints hold what is trained alone."""
    if context.run.read_record().fingerprints.model not in (None, model_fingerprint(context)):
        raise ConfigError(
            f"{context.run.path} was begun with other files of {context.config.model.name_or_path}, and with "
            f"model.dtype: nf4 its checkpoints do not hold them. Bring those files back, or start anew: --overwrite"
        )


def model_fingerprint(context: RunContext) -> str | None:
    """SHA-256 of the pretrained model that the run starts from; None for a new one, which config and seed decide."""
    settings = context.config.model
    if settings.name_or_path is None or not is_main_process():
        return None
    return files.weights_fingerprint(
        resolving.resolve_model(settings.name_or_path, revision=settings.revision, offline=context.offline)
    )
