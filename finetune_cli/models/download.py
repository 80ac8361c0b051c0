"""Models of the Hub: which of a repository's files are fetched, and what is said when they are not to be had."""

from __future__ import annotations

from pathlib import Path

from finetune_cli.errors import MissingError
from finetune_cli.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    LONG_TEXTS_FILE,
    PICKLED_PARTS,
    PICKLED_WEIGHTS,
    SAFE_PARTS,
    SAFE_WEIGHTS,
    TOKENIZER_PATTERNS,
    inner_model,
    weight_format,
)
from finetune_cli.records.decision_rule import DECISION_FILE


def download(repo_id: str, key: str, *, revision: str | None, offline: bool, weights: bool, code: bool) -> Path:
    """The local directory of a Hub model's files, fetched where they are not in the cache; see `resolve_model`.

    Safetensors, and .bin files where there are none; nothing for other libraries. Raises MissingError.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["config.json", "modules.json", ADAPTER_CONFIG, DECISION_FILE, LONG_TEXTS_FILE, *TOKENIZER_PATTERNS]
    patterns += ["*.py"] if code else []
    safe = [*SAFE_WEIGHTS, SAFE_PARTS, ADAPTER_WEIGHTS[0]] if weights else []
    where = f"{key}: {repo_id!r}"

    def fetch(names: list[str]) -> Path:
        patterns = [pattern for name in names for pattern in (name, f"0_Transformer/{name}")]
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=offline))

    try:
        directory = fetch([*patterns, *safe])
        if weights and not _has_safetensors(directory):
            directory = fetch([*patterns, *PICKLED_WEIGHTS, PICKLED_PARTS, ADAPTER_WEIGHTS[1]])
        return directory
    except HFValidationError as err:
        raise MissingError(f"{where} is neither a directory here nor a valid Hub id.") from err
    except GatedRepoError as err:
        raise MissingError(f"{where} is gated on the Hub. Accept its terms there, then run `hf auth login`.") from err
    except RevisionNotFoundError as err:
        raise MissingError(f"{where} has no revision {revision!r} on the Hub. Check model.revision.") from err
    except RepositoryNotFoundError as err:
        raise MissingError(
            f"{where} is not a directory here, and the Hub has no such model (or it is private)."
        ) from err
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as err:
        reason = "offline mode is on" if offline or constants.HF_HUB_OFFLINE else "the Hub was not reached"
        raise MissingError(
            f"{where} is not a directory here, its files are not in the local cache, and {reason}. Run once with "
            f"network access, or name a local directory{': -s model.name_or_path=PATH' if '.' in key else ''}."
        ) from err


def _has_safetensors(directory: Path) -> bool:
    return weight_format(inner_model(directory)) == "safetensors" or (directory / ADAPTER_WEIGHTS[0]).is_file()
