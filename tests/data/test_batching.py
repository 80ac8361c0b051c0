"""The order of rows, how an update is dealt to processes, and padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_cli.data.batching import EpochLoader, TrainingRows, UpdateSampler, pad_rows
from finetune_cli.data.order import RowOrder, split_update
from finetune_cli.data.windows import TokenRows


def rows_of(lengths: list[int], *, with_types: bool = True) -> TokenRows:
    """Rows of the given lengths; token n of row r is 100 r + n."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.array([100 * row + n for row, length in enumerate(lengths) for n in range(length)], np.int32)
    return TokenRows(tokens, offsets, (tokens % 2).astype(np.int8) if with_types else None)


def as_lists(updates: list[np.ndarray]) -> list[list[int]]:
    return [update.tolist() for update in updates]


@given(st.integers(1, 300), st.integers(1, 16), st.sampled_from(["length", "random"]), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_each_epoch_has_each_row_once_in_full_updates_and_a_last_one(
    num_rows: int, batch_size: int, batching: str, epoch: int
) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, num_rows)
    order = RowOrder(lengths, batch_size=batch_size, seed=3, batching=batching)
    updates = order.epoch(epoch)
    assert len(updates) == order.updates_per_epoch
    assert sorted(np.concatenate(updates)) == list(range(num_rows))
    assert {len(update) for update in updates[:-1]} <= {batch_size}
    assert len(updates[-1]) == num_rows - batch_size * (len(updates) - 1)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 100)
    orders = [RowOrder(lengths, batch_size=8, seed=seed) for seed in (1, 1, 2)]
    np.random.seed(5)
    drawn = [as_lists(order.epoch(0)) for order in orders]
    assert drawn[0] == drawn[1] != drawn[2]
    assert as_lists(orders[0].epoch(1)) != drawn[0]
    assert as_lists(orders[0].epoch(0)) == drawn[0]
    assert [orders[0].update(step).tolist() for step in range(1, 14)] == drawn[0]
    assert orders[0].update(14).tolist() == orders[0].epoch(1)[0].tolist()


def test_batching_by_length_pads_less_and_favours_no_length() -> None:
    lengths = np.random.default_rng(0).integers(4, 128, 1000)

    def padding(batching: str) -> float:
        order = RowOrder(lengths, batch_size=8, seed=0, batching=batching)
        padded = sum(len(update) * lengths[update].max() for update in order.epoch(0))
        return 1 - lengths.sum() / padded

    assert padding("length") < 0.1 < 0.3 < padding("random")
    means = [lengths[update].mean() for update in RowOrder(lengths, batch_size=8, seed=0).epoch(0)]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("num_rows", [8, 5, 1])
def test_an_update_is_dealt_out_whole_and_in_step(num_rows: int, micro_batch_size: int, num_processes: int) -> None:
    rows = np.arange(num_rows) + 10
    shared = {"update_rows": num_rows, "micro_batch_size": micro_batch_size, "num_processes": num_processes}
    dealt = [list(split_update(rows, rows, **shared, process_index=index)) for index in range(num_processes)]
    assert {len(batches) for batches in dealt} == {-(-num_rows // (micro_batch_size * num_processes))}
    counted = [batch.pieces[: batch.num_valid] for batches in dealt for batch in batches]
    assert sorted(np.concatenate(counted)) == rows.tolist()
    assert all(
        batch.update_rows == num_rows and 0 < len(batch.pieces) <= micro_batch_size for b in dealt for batch in b
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 60), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_micro_batches_by_tokens_hold_no_more_than_that(
    lengths: list[int], num_processes: int, max_tokens: int, micro_batch_size: int
) -> None:
    pieces, widths = np.arange(len(lengths)) + 10, np.array(lengths)
    shared = {"update_rows": 3, "micro_batch_size": micro_batch_size, "max_tokens": max_tokens}
    dealt = [
        list(split_update(pieces, widths, num_processes=num_processes, process_index=index, **shared))
        for index in range(num_processes)
    ]
    assert len({len(batches) for batches in dealt}) == 1
    batches = [batch for of_process in dealt for batch in of_process]
    assert sorted(np.concatenate([batch.pieces[: batch.num_valid] for batch in batches])) == pieces.tolist()
    padded = [len(batch.pieces) * widths[batch.pieces - 10].max() for batch in batches]
    assert all(size <= max_tokens or len(batch.pieces) == 1 for size, batch in zip(padded, batches, strict=True))
    assert all(len(batch.pieces) <= micro_batch_size for batch in batches)


def test_padding_puts_tokens_left_and_marks_them() -> None:
    inputs = pad_rows(rows_of([2, 0, 3]), [2, 0], pad_token_id=9)
    assert inputs["input_ids"].tolist() == [[200, 201, 202], [0, 1, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert inputs["token_type_ids"].tolist() == [[0, 1, 0], [0, 1, 0]]
    assert all(values.dtype == np.int64 for values in inputs.values())


def test_the_width_can_be_rounded_up_or_fixed() -> None:
    rows = rows_of([2, 3], with_types=False)
    assert pad_rows(rows, [0, 1], pad_token_id=0, multiple_of=8)["input_ids"].shape == (2, 8)
    fixed = pad_rows(rows, [0], pad_token_id=0, length=5)
    assert fixed["input_ids"].shape == (1, 5)
    assert "token_type_ids" not in fixed


def test_a_loader_yields_updates_in_micro_batches_with_their_labels_and_counts() -> None:
    rows = rows_of([3] * 10)
    order = RowOrder(np.array(np.diff(rows.offsets)), batch_size=4, seed=0)
    loader = EpochLoader(UpdateSampler(order, TrainingRows(rows, np.arange(10), pad_token_id=0), micro_batch_size=2))
    assert len(loader) == 3
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        assert [len(update) for update in loader] == [2, 2, 1]
        batches = [batch for update in loader for batch in update]
        assert [batch["update_rows"] for batch in batches] == [4, 4, 4, 4, 2]
        labels = [int(label) for batch in batches for label in batch["labels"]]
        assert labels == np.concatenate(order.epoch(epoch)).tolist()
        assert all((batch["input_ids"][:, 0] == 100 * batch["labels"]).all() for batch in batches)


def test_padding_share_counts_slots_up_to_the_longest_row_of_each_update() -> None:
    lengths = np.array([1, 4, 1, 4])
    assert RowOrder(lengths, batch_size=2, seed=0, batching="length").padding_share() == 0
    assert RowOrder(lengths, batch_size=4, seed=0, batching="random").padding_share() == pytest.approx(1 - 10 / 16)
    # An update of 2 rows and a short one of 1.
    order = RowOrder(np.array([1, 2, 9]), batch_size=2, seed=0)
    slots = sum(len(rows) * int(order.lengths[rows].max()) for rows in order.epoch(0))
    assert order.padding_share() == pytest.approx(1 - 12 / slots)
