"""Processes, signals, files written whole, imports, the allocator, provenance."""
