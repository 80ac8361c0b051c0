"""What is decided for TPUs: torch_xla as a stub, torch_tpu as an answer of torch. Really run: tests/xla."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from finetune_cli.config.load import load_config
from finetune_cli.data.batching import EpochLoader, TrainingRows, UpdateSampler, pad_rows
from finetune_cli.data.order import MicroBatch, RowOrder
from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.errors import ConfigError, ExitCode, MissingError
from finetune_cli.evaluation.inference import FewShapes
from finetune_cli.runs.model_to_train import require_supported_on
from finetune_cli.system import xla
from finetune_cli.system.devices import require_a_device_for_each
from finetune_cli.system.launching import join_group, launch_workers
from finetune_cli.training.device_settings import choose_device_settings
from finetune_cli.training.objective import Objective, row_losses
from finetune_cli.training.precision import choose_precision, inference_dtype
from finetune_cli.training.state import _load_without_addresses
from tests.training.small_runs import make_rows

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = (xla.SWITCH, xla.RUNTIME, xla.DEVICE, "ACCELERATE_USE_CPU", "WORLD_SIZE", "LOCAL_RANK")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """installed(**variables): torch_xla can be found, no TPU, and the environment says this and nothing else of it.

    tpu=True: with a TPU among the cards of the machine.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    monkeypatch.setattr(xla, "PCI_DEVICES", tmp_path / "pci")

    def pretend(*, tpu: bool = False, **variables: str) -> None:
        monkeypatch.setattr(xla, "is_installed", lambda: True)
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(variables)
        for number, device in enumerate(["0x0042", "0x0063"][: 1 + tpu]):  # the first is a network card
            card = tmp_path / "pci" / str(number)
            card.mkdir(parents=True, exist_ok=True)
            (card / "vendor").write_text("0x1ae0\n")
            (card / "device").write_text(device + "\n")

    yield pretend
    for name, value in before.items():
        os.environ.pop(name, None)
        os.environ.update({} if value is None else {name: value})


def output_of(code: str, **variables: str) -> str:
    """What a new process prints that no launcher started and that was told nothing of devices."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_unused_torch_xla_pulls_nobody_onto_xla(
    installed: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    installed()
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        xla.settle()
        xla.settle()
    assert caplog.messages == ["torch_xla is installed and not used: no TPU is here, and PJRT_DEVICE is not set."]
    assert (os.environ[xla.SWITCH], xla.in_use()) == ("0", False)


@pytest.mark.parametrize(
    ("machine", "reason", "runtime"),
    [({"tpu": True}, "there is a TPU", "TPU"), ({"PJRT_DEVICE": "CPU"}, "PJRT_DEVICE=CPU", "CPU")],
)
def test_a_tpu_or_the_variable_takes_xla_as_a_plain_device_and_says_why(
    installed: Callable[..., None], caplog: pytest.LogCaptureFixture, machine: Any, reason: str, runtime: str
) -> None:
    installed(**machine)
    with caplog.at_level(logging.INFO, logger="finetune_cli"):
        xla.settle()
    assert caplog.messages == [f"Using torch_xla: {reason}. To leave it: USE_TORCH_XLA=0"]
    assert [os.environ[name] for name in (xla.SWITCH, xla.RUNTIME, xla.DEVICE)] == ["0", runtime, "xla:0"]


@pytest.mark.parametrize(
    "variables",
    [
        {"USE_TORCH_XLA": "0", "PJRT_DEVICE": "TPU"},
        {"ACCELERATE_USE_CPU": "true"},
        {"ACCELERATE_TORCH_DEVICE": "cuda:1"},
    ],
)
def test_who_asks_for_something_else_gets_that_in_spite_of_a_tpu(
    installed: Callable[..., None], variables: dict[str, str]
) -> None:
    installed(tpu=True, **variables)
    xla.settle()
    assert not xla.in_use()
    assert xla.reason_for_xla() is None
    assert os.environ[xla.SWITCH] == "0"


def test_a_command_on_the_cpu_does_not_import_a_torch_xla_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "torch_xla").mkdir()
    (tmp_path / "torch_xla" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    code = (
        "from finetune_cli import train\n"
        "from accelerate import PartialState\n"
        "from transformers import TrainingArguments\n"
        "print(PartialState().device, TrainingArguments(output_dir='none', use_cpu=True).device)\n"
    )
    assert output_of(code, PYTHONPATH=f"{tmp_path}:{ROOT}") == "cpu cpu"


def test_several_processes_on_xla_are_refused_before_any_work(installed: Callable[..., None]) -> None:
    installed(PJRT_DEVICE="TPU")
    with pytest.raises(ConfigError, match=r"2 processes on XLA \(PJRT_DEVICE=TPU\) are not supported.*USE_TORCH_XLA=0"):
        require_a_device_for_each(2)
    with pytest.raises(ConfigError, match="Leave out --num-processes, --workers"):
        launch_workers(["sweep"], 2)
    require_a_device_for_each(1)


@pytest.mark.parametrize("kind", [RuntimeError, OSError], ids=lambda kind: kind.__name__)
def test_a_torch_xla_without_a_device_says_what_to_type(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """OSError is what comes of PJRT_DEVICE=TPU where no libtpu is."""

    def fail() -> int:
        raise kind("no TPU found\nand a long tale")

    installed(PJRT_DEVICE="TPU")
    runtime = SimpleNamespace(addressable_runtime_device_count=fail, process_count=lambda: 1)
    monkeypatch.setitem(sys.modules, "torch_xla", SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(xla, "_require_plain_libraries", lambda: None)
    xla.settle()
    with pytest.raises(MissingError, match=r"torch_xla has no device here \(no TPU found\).*USE_TORCH_XLA=0"):
        join_group()


def test_an_accelerate_that_took_xla_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import imports

    monkeypatch.setattr(imports, "is_torch_xla_available", lambda: True)
    with pytest.raises(ConfigError, match="from finetune_cli import train"):
        xla.start()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("training.micro_batch_tokens=512", "training.micro_batch_tokens: its micro-batches"),
        ("training.packing=true", "training.packing: packed rows have ever new shapes"),
        ("training.compile=true", "training.compile: this device compiles by itself"),
        ("training.gradient_checkpointing=true", "training.gradient_checkpointing: the compiler"),
    ],
)
@pytest.mark.parametrize("device", ["xla", "tpu"])
def test_what_such_a_device_cannot_do_is_refused_by_name(
    tmp_path: Path, write_config: Callable[..., Path], device: str, setting: str, reason: str
) -> None:
    config = load_config(write_config(tmp_path), [setting])
    require_supported_on(torch.device("cpu"), config)
    kind: Any = SimpleNamespace(type=device)
    with pytest.raises(ConfigError, match=reason) as caught:
        require_supported_on(kind, config)
    assert caught.value.exit_code == ExitCode.CONFIG


def test_torch_tpu_gets_the_settings_of_torch_xla() -> None:
    options: dict[str, Any] = {"precision": "auto", "mixed_precision": "bf16", "compile_model": "auto"}
    chosen = choose_device_settings("tpu", **options)
    assert chosen == choose_device_settings("xla", **options)
    assert (chosen.few_widths, chosen.full_micro_batches, chosen.ready_mask) == (True, True, True)
    assert (chosen.fused_optimizer, chosen.compile, chosen.pin_memory, chosen.reading_lag) == (False, False, False, 2)


def test_torch_tpu_computes_in_bf16_and_never_in_fp16() -> None:
    assert choose_precision("auto", "tpu") == ("bf16", "this tpu computes bf16 natively")
    assert inference_dtype("bf16", "tpu") is torch.bfloat16
    assert inference_dtype("fp16", "tpu") is None
    with pytest.raises(MissingError, match="fp16 needs a GPU"):
        choose_precision("fp16", "tpu")


@pytest.mark.parametrize(("hardware", "expected"), [("4 x TPU", "bf16"), ("CPU", "no")])
def test_xla_computes_in_bf16_where_its_hardware_does(
    monkeypatch: pytest.MonkeyPatch, hardware: str, expected: str
) -> None:
    monkeypatch.setattr(xla, "hardware", lambda: hardware)
    assert choose_precision("auto", "xla")[0] == expected


def test_accelerate_is_told_of_the_device_of_torch_tpu() -> None:
    """Accelerate 1.15 does not know it, and would take the CPU."""
    code = (
        "import torch\n"
        "torch.utils.rename_privateuse1_backend('tpu')\n"  # as torch_tpu does when torch loads it
        "torch.accelerator.current_accelerator = lambda **_: torch.device('tpu')\n"
        "torch.accelerator.is_available = lambda: True\n"
        "from finetune_cli.system.launching import join_group, launch_workers\n"
        "from finetune_cli.training.precision import available_device\n"
        "print(join_group().device, available_device())\n"
    )
    assert output_of(code) == "tpu:0 tpu"


def test_scoring_pads_to_a_few_shapes_and_asks_no_row_twice() -> None:
    rows = make_rows(43)
    few = FewShapes(max_length=30, num_rows=43, tokens_per_batch=120)
    batches = list(few.batches(rows.lengths))
    assert sorted(np.concatenate(batches)) == list(range(43))
    shapes = {(len(filled), width) for filled, width in (few.full(batch, rows.lengths) for batch in batches)}
    assert shapes == {(4, 30)}
    filled, _ = few.full(batches[-1], rows.lengths)
    assert (filled[: len(batches[-1])] == batches[-1]).all()
    assert set(filled) == set(batches[-1])
    assert FewShapes(max_length=512, num_rows=3, tokens_per_batch=32768).rows(64) == 4
    assert FewShapes(max_length=512, num_rows=10**6, tokens_per_batch=32768).rows(192) == 128


def test_a_full_batch_has_a_mask_where_none_would_be_another_graph() -> None:
    rows = make_rows(8)
    longest = np.flatnonzero(rows.lengths == rows.lengths.max())[:1]
    assert "attention_mask" not in pad_rows(rows, longest, pad_token_id=0, ready_mask=True)
    mask = pad_rows(rows, longest, pad_token_id=0, ready_mask="always")["attention_mask"]
    assert mask.shape == (1, 1, 1, rows.lengths.max())
    assert mask.all()


def test_rows_that_do_not_count_weigh_nothing_without_a_shape_of_their_own() -> None:
    class Model(torch.nn.Module):
        def forward(self, logits: torch.Tensor) -> Any:
            return SimpleNamespace(logits=logits)

    rows = make_rows(10)
    shapes: dict[str, Any] = {"pad_token_id": 0, "num_rows": 4}
    three = MicroBatch(np.array([6, 2, 5]), num_valid=3, update_rows=7)
    cut, weighed = (
        TrainingRows(rows, rows.labels, static_limit=limit, **shapes).micro_batch(three) for limit in (None, 30)
    )
    assert (cut["num_valid"], weighed["num_valid"]) == (3, 4)
    assert weighed["weights"].tolist() == [1, 1, 1, 0]
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    objective = Objective(row_losses("classification"))

    def share(batch: dict[str, Any]) -> torch.Tensor:
        known = {name: batch[name] for name in ("labels", "num_valid", "update_rows", "weights") if name in batch}
        return objective(Model(), {"logits": logits, **known})

    assert torch.allclose(share(cut), share(weighed), rtol=1e-6)


def test_a_short_update_has_the_shapes_of_a_full_one() -> None:
    """11 rows in updates of 8, 4 at once: the last update has 3 rows, and a second micro-batch that does not count."""
    rows = make_rows(11)
    of_rows = TrainingRows(rows, rows.labels, pad_token_id=0, static_limit=30, num_rows=4)
    order = RowOrder(rows.lengths, batch_size=8, seed=0)
    sampler = UpdateSampler(order, of_rows, micro_batch_size=4, at_least=2)
    full, short = EpochLoader(sampler)
    assert [[batch["input_ids"].shape for batch in update] for update in (full, short)] == [[(4, 30)] * 2] * 2
    assert [batch["weights"].tolist() for batch in short] == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert {batch["update_rows"] for batch in short} == {3}


def test_the_micro_batches_of_an_update_have_one_width() -> None:
    rows = PreparedSplit(
        np.ones(41, np.int32), np.array([0, 1, 41]), name="train", labels=np.zeros(2, int), ids=range(2)
    )
    of_rows = TrainingRows(rows, rows.labels, pad_token_id=0, static_limit=64, num_rows=1)
    update = [MicroBatch(np.array([row]), num_valid=1, update_rows=2) for row in (0, 1)]
    assert [batch["input_ids"].shape for batch in of_rows.__getitems__(update)] == [(1, 64), (1, 64)]


def test_weights_are_loaded_where_tensors_have_no_address_also_tied_ones(tmp_path: Path) -> None:
    """safetensors' own load_model finds the names that share a weight by their address."""

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
            self.second.weight = self.first.weight

    source, target = Tied(), Tied()
    weights = {name: value for name, value in source.state_dict().items() if name != "second.weight"}
    save_file(weights, tmp_path / "model.safetensors")
    _load_without_addresses(target, tmp_path / "model.safetensors")
    assert all(torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items())
    save_file({"first.weight": weights["first.weight"]}, tmp_path / "part.safetensors")
    with pytest.raises(RuntimeError, match="Missing key"):
        _load_without_addresses(target, tmp_path / "part.safetensors")
