"""Options in, one command called, errors into exit codes: one file per command."""
