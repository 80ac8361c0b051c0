"""The sections of a config, a module each; `config.fields` puts them together."""
