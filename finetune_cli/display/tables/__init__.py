"""The results of the commands as people read them; with --json, the same as one document."""
