"""The data checks: what may be wrong with the rows of a split, found while they are prepared."""
