"""What is chosen for a device, and shapes that stay the same. Needs no such device."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from finetune_cli.data.batching import FEW_WIDTHS, TrainingRows, few_widths
from finetune_cli.data.order import MicroBatch
from finetune_cli.training.device_settings import choose_device_settings
from tests.training.small_runs import Run, make_rows
from tests.training.test_loops_agree import RELATIVE, largest_differences

choose = partial(choose_device_settings, precision="auto", mixed_precision="no", compile_model=False)


def test_a_cpu_runs_plainly_unless_compilation_is_asked_for() -> None:
    chosen = choose("cpu", compile_model="auto")
    assert [chosen.compile, chosen.pin_memory, chosen.few_widths, chosen.full_micro_batches] == [False] * 4
    assert (chosen.fp32_matmul, chosen.width_multiple, chosen.reading_lag) == (None, 1, 0)
    compiled = choose("cpu", compile_model=True)
    assert compiled.compile
    assert compiled.full_micro_batches


def test_cuda_runs_ahead_of_the_host() -> None:
    chosen = choose("cuda")
    assert chosen.pin_memory
    assert (chosen.reading_lag, chosen.width_multiple) == (2, 16)
    assert [chosen.compile, chosen.full_micro_batches, chosen.few_widths] == [False] * 3
    assert not choose("cuda", compile_model="auto", num_updates=500).compile  # it would not pay for its own time
    automatic = choose("cuda", compile_model="auto", num_updates=50_000)
    assert automatic.compile
    assert automatic.full_micro_batches


def test_graphs_are_for_cuda_and_change_nothing_else_there() -> None:
    """So that the same command with training.cuda_graphs: false trains the same model."""
    assert not choose("cpu", replay=True).replay
    assert not choose("xla", replay=True).replay
    assert choose("cuda", replay=True) == replace(choose("cuda"), replay=True)


def test_a_cpu_in_bf16_sees_a_quarter_of_the_widths() -> None:
    assert choose("cpu", mixed_precision="bf16").width_multiple == 4
    assert choose("cuda", mixed_precision="bf16").width_multiple == 16


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", "highest"), ("auto", "high"), ("bf16", "high"), ("fp16", "high")]
)
def test_fp32_that_was_asked_for_is_not_cut_to_tf32(precision: str, expected: str) -> None:
    assert choose("cuda", precision=precision).fp32_matmul == expected


def test_xla_gets_few_shapes() -> None:
    chosen = choose("xla", compile_model="auto")
    assert chosen.few_widths
    assert chosen.full_micro_batches
    assert [chosen.compile, chosen.pin_memory] == [False] * 2


def test_a_width_is_one_of_a_few_and_within_the_model_s_limit() -> None:
    assert [few_widths(longest, 512) for longest in (1, 32, 33, 65, 200, 512)] == [32, 32, 64, 96, 256, 512]
    assert few_widths(40, 50) == 50
    assert [few_widths(longest, 4096) for longest in (513, 1025)] == [1024, 1536]
    assert {few_widths(longest, 512) for longest in range(1, 513)} == set(FEW_WIDTHS)


def test_a_short_micro_batch_is_filled_up_with_rows_that_do_not_count() -> None:
    rows = make_rows(10)
    batch = TrainingRows(rows, rows.labels, pad_token_id=0, static_limit=30, num_rows=4).micro_batch(
        MicroBatch(np.array([6, 2]), num_valid=2, update_rows=6)
    )
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (4, 30)
    assert (batch["num_valid"], batch["update_rows"]) == (4, 6)
    assert batch["weights"].tolist() == [1, 1, 0, 0]
    assert batch["attention_mask"].sum(axis=1).tolist() == rows.lengths[[6, 2, 2, 2]].tolist()
    assert batch["labels"].tolist() == rows.labels[[6, 2, 2, 2]].tolist()


def test_static_shapes_train_the_same_model(tmp_path: Path) -> None:
    """Three rows at once, two in an update's last part, 5 in the last update. Dropout off: masks depend on shapes."""
    rows = make_rows(45)
    plain = Run("trainer", tmp_path / "plain", rows, micro_batch_size=3).train()
    static = Run("trainer", tmp_path / "static", rows, micro_batch_size=3, static_shapes=True).train()
    # A key's bias: see test_accumulation_equals_one_large_batch.
    differences = largest_differences(plain, static, leave_out="key.bias")
    assert all(value <= RELATIVE for value in differences.values()), differences
