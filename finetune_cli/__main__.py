"""`python -m finetune_cli`: what accelerate and torchrun start."""

import sys

from finetune_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
