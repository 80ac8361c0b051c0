"""What the package's log records carry besides their text."""

FILE_ONLY = "finetune_file_only"  # in `extra`: a record for run.log that a terminal leaves out
