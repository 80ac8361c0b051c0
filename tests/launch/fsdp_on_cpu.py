"""The command line with the one rule of Accelerate lifted that keeps FSDP from CPUs: what GPUs do can be tested here.

Accelerate 1.15 turns FSDP on for the distributed types of accelerators only (`AcceleratorState.__init__`); PyTorch's
fully_shard itself works with gloo. A group of CPUs is renamed to one of those types, whose device stays the CPU.
"""

import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from finetune_cli.cli.app import main

form_group = PartialState.__init__


def form_group_and_rename_it(self: PartialState, *args: Any, **options: Any) -> None:
    form_group(self, *args, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_XPU


if __name__ == "__main__":
    PartialState.__init__ = form_group_and_rename_it
    sys.exit(main())
