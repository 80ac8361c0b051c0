"""The command line, one file for each command: its options, and the call of the function that does the work."""
