"""The Hub: whether it can be reached from here, and handing it the best model.

Permission is proven before training, the upload comes after it.

The token is huggingface_hub's own business (HF_TOKEN, or `hf auth login`); it is in no config and in no file of a run.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from finetune_cli.config.fields import HubConfig
from finetune_cli.config.text import hide_secrets
from finetune_cli.errors import ConfigError, ExitCode, MissingError, RunFailedError, first_line
from finetune_cli.records.doctor import Hub
from finetune_cli.records.run import HubUpload
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.run_log import logging_to

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5
WRITE_TOKEN = "with a token that may write (https://huggingface.co/settings/tokens), or set HF_TOKEN to one"


def hub_status(*, offline: bool) -> Hub:
    """Ask the Hub once who the token's owner is, or without a token for its first page. Nothing is asked offline."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]  # lazy exports

    endpoint = constants.ENDPOINT
    try:
        token = get_token()
    except OSError as err:  # a home directory that cannot be read
        return Hub(endpoint, "not asked", f"the token cannot be read: {err.strerror}")
    login = "a token is set" if token else "no token: only public models and data"
    if offline or constants.HF_HUB_OFFLINE:
        return Hub(endpoint, "offline", login)
    path = "/api/whoami-v2" if token else ""
    try:
        answer = get_session().get(
            endpoint + path, headers=build_hf_headers(token=token or False), timeout=TIMEOUT_SECONDS
        )
    except Exception as err:  # of the HTTP library, which differs between versions of huggingface_hub
        return Hub(endpoint, "not reachable", login, hide_secrets(first_line(err)))
    if token and answer.status_code == 401:
        return Hub(endpoint, "reachable", "the token is refused")
    if token and answer.status_code == 200:
        return Hub(endpoint, "reachable", "the token is accepted")
    return Hub(endpoint, "reachable", login)


def require_place(hub: HubConfig | None, *, push: bool) -> None:
    """Raise ConfigError when an upload is asked for, and the config does not say where to."""
    if push and hub is None:
        raise ConfigError("--push: the config does not say where to. Add -s hub.repo_id=user/name.")


def is_uploaded(run: RunDir, hub: HubConfig) -> bool:
    """Whether the finished run's model is in this repository already, as run.json says."""
    record = run.read_record()
    there = record.hub is not None and record.hub.repo_id == hub.repo_id and record.hub.commit_url is not None
    return record.is_finished and there


def require_write_access(hub: HubConfig, *, offline: bool) -> None:
    """Make sure that the repository is there, that the token may write to it, and that nothing private gets public.

    Creates the repository where there is none. Raises ConfigError offline, and when a public repository has the name of
    one that should be private; MissingError when the token is missing or may not write, or the Hub is not reached.
    """
    from huggingface_hub import HfApi, constants, get_token

    if offline or constants.HF_HUB_OFFLINE:
        raise ConfigError(
            "hub.repo_id: an upload needs the network, and offline mode is on. Take off --offline (or HF_HUB_OFFLINE), "
            "or train without the upload (-s hub=null) and type the command with it later."
        )
    try:
        token = get_token()
    except Exception as err:  # an OSError for a home that cannot be read, or what the exchange of a CI's token raises
        raise MissingError(
            f"hub.repo_id: the token for the Hub cannot be read ({_reason(err)}). Set HF_TOKEN to one that may write, "
            f"or HF_HOME to a directory that can be read."
        ) from err
    if token is None:
        raise MissingError(f"hub.repo_id: there is no token for the Hub. Run `hf auth login` {WRITE_TOKEN}.")
    try:
        api = HfApi()
        api.create_repo(hub.repo_id, private=hub.private, exist_ok=True)
        api.auth_check(hub.repo_id, write=True)
        private = api.model_info(hub.repo_id).private
    except Exception as err:  # of the HTTP library, which differs between versions of huggingface_hub
        raise MissingError(_refusal(hub.repo_id, err)) from err
    if hub.private and not private:
        raise ConfigError(
            f"hub.private is true, but {hub.repo_id} is there already, and public. Make it private on the Hub, name "
            f"another one, or say -s hub.private=false."
        )
    if private and not hub.private:
        logger.warning("hub.private is false, but %s is there already, and private. It stays so.", hub.repo_id)


def _refusal(repo_id: str, err: Exception) -> str:
    """Why the Hub would not take an upload, and what to type next."""
    from huggingface_hub.errors import HfHubHTTPError

    status = err.response.status_code if isinstance(err, HfHubHTTPError) else None
    if status == 401:
        return f"hub.repo_id: the Hub does not accept the token. Run `hf auth login` {WRITE_TOKEN}."
    if status in (403, 404):
        return f"hub.repo_id: this token may not write to {repo_id}. Run `hf auth login` {WRITE_TOKEN}."
    return (
        f"hub.repo_id: the Hub did not say whether this token may write to {repo_id} ({_reason(err)}). "
        f"Try again, or train without the upload (-s hub=null) and type the command with it later."
    )


def _reason(err: BaseException) -> str:
    """What the client says, and what lies below it, which says more when the transfer of a file failed."""
    reasons = [first_line(err)]
    while err.__cause__ is not None:
        err = err.__cause__
        reasons.append(first_line(err))
    return hide_secrets(": ".join(dict.fromkeys((reasons[0], reasons[-1]))))


def upload(run: RunDir, hub: HubConfig) -> str:
    """Upload `model/` with its card in one commit; the commit's address, which run.json then has as well.

    Raises RunFailedError when that fails; run.json says so, and the run stays a finished one.
    """
    from huggingface_hub import HfApi

    with logging_to(run) as log:
        logger.info("Uploading %s to %s", run.model, hub.repo_id)
        try:
            commit = HfApi().upload_folder(
                repo_id=hub.repo_id, folder_path=run.model, commit_message="Upload a model trained with finetune"
            )
        except Exception as err:  # of the HTTP library and of the file transfer, many kinds
            reason = _reason(err)
            log.error("The upload failed", exc_info=True)
            _note(run, ExitCode.RUN_FAILED, HubUpload(hub.repo_id, hub.private, error=reason))
            raise RunFailedError(
                f"The upload to {hub.repo_id} failed: {reason}. Nothing is lost: the model is in {run.model}. The same "
                f"command tries the upload again, without training."
            ) from err
        logger.info("Uploaded: %s", commit.commit_url)
    address = str(commit.commit_url)
    _note(run, ExitCode.DONE, HubUpload(hub.repo_id, hub.private, commit_url=address))
    return address


def _note(run: RunDir, exit_code: ExitCode, outcome: HubUpload) -> None:
    run.write_record(replace(run.read_record(), exit_code=int(exit_code), hub=outcome))
