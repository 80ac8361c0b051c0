"""Faults other than signals."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    name: str
    problem: str


CASES = {}
