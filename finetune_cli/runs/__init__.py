"""One run: its directory, lock and record, its parts, its scores and what becomes of them."""
