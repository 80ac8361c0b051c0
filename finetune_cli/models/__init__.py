"""The model of a run: finding its files, building it, and making it cheaper without changing what it computes."""
