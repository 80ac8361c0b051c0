"""Scores and what they are worth: metrics, their intervals, and the comparison of two sets of predictions.

The metric, interval and comparison modules need NumPy alone, so they also run where no torch is installed.
"""
