"""The run config, a YAML file: its fields, the rules between them, reading it, and messages about mistakes."""
