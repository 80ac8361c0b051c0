#!/usr/bin/env python3
"""A BERT-base that nobody trained: for speed, which does not depend on the weights, where no pretrained one is at hand.

    python scripts/bench/base.py --tokenizer DIRECTORY --output DIRECTORY

tokenizer: a directory with a WordPiece tokenizer, such as that of any BERT. 110 million random weights are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
