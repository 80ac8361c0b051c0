"""The results of the commands as people read them; with --json, `Output.result` prints the record instead."""
