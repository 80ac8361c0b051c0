"""What a person sees in a terminal: the two streams, the progress bar, tables."""
