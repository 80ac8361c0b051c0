"""`python -m finetune_cli`: what accelerate and torchrun start."""

import sys

if __name__ == "__main__":
    try:
        from finetune_cli.cli.app import main
    except KeyboardInterrupt:  # before anything could handle it
        sys.exit(130)
    sys.exit(main())
