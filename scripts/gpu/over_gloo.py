"""One of several processes that share one device: python -m scripts.gpu.over_gloo CONFIG, RANK and WORLD_SIZE set.

NCCL refuses two processes on one GPU, so the group is formed over gloo before the command would form its own.
"""

import sys

import torch

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config

if __name__ == "__main__":
    if torch.cuda.is_available():
        torch.cuda.set_device(0)
    torch.distributed.init_process_group("gloo")
    train(load_config(sys.argv[1]), offline=True)
    torch.distributed.destroy_process_group()
