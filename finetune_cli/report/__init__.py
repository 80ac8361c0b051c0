"""What a person reads of an evaluation: the numbers behind the pages, the drawings, and the pages themselves.

Everything comes from stored files (metrics.json, predictions.jsonl, history.jsonl) and NumPy: no torch.
"""
