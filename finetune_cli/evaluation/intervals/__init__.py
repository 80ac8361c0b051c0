"""Intervals of scores over the choice of the rows: by_family.py takes the one that fits the metric."""
