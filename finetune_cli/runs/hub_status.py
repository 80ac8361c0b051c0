"""Whether the Hugging Face Hub can be reached from here, and whether it accepts the token."""

from __future__ import annotations

from finetune_cli.config.text import hide_secrets
from finetune_cli.errors import first_line
from finetune_cli.records.doctor import Hub

TIMEOUT_SECONDS = 5


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
