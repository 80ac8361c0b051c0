"""The run config, a YAML file: reading it, its fields, the rules between them, messages about mistakes."""
