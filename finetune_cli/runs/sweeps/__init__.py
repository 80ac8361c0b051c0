"""A sweep: its search, who works at which trial, and one trial as an ordinary run."""
