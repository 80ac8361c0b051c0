#!/usr/bin/env python3
"""What action.yml runs: `finetune train` if a config is given, then `finetune evaluate` with the gates, then a summary.

Inputs are environment variables, as action.yml sets them; what GitHub reads goes to the files that $GITHUB_OUTPUT and
$GITHUB_STEP_SUMMARY name. Ends with the exit code of the last command: 4 for a gate, 75 for a run that goes on when the
job is started again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULT = Path("finetune-result.json")
MAX_SUMMARY_BYTES = 900_000  # GitHub shows at most 1 MiB a step
USAGE = 2


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def settings(inputs: Mapping[str, str]) -> list[str]:
    return [word for line in lines(inputs.get("SET", "")) for word in ("--set", line)]


def train_command(inputs: Mapping[str, str]) -> list[str]:
    return ["train", inputs["CONFIG"], *settings(inputs)]


def evaluate_command(inputs: Mapping[str, str]) -> list[str]:
    """The settings belong to the config; another target has its own."""
    target, config = inputs.get("TARGET", ""), inputs.get("CONFIG", "")
    command = ["evaluate", target or config, "--json", *(settings(inputs) if not target else [])]
    command += ["--data", inputs["DATA"]] if inputs.get("DATA") else ["--split", inputs.get("SPLIT") or "validation"]
    command += [word for gate in lines(inputs.get("GATES", "")) for word in ("--gate", gate)]
    command += ["--baseline", inputs["BASELINE"]] if inputs.get("BASELINE") else []
    drops = lines(inputs.get("MAX_DROP", ""))
    command += [word for drop in drops for word in ("--max-drop", drop)]
    return command + (["--junit", inputs["JUNIT"]] if inputs.get("JUNIT") else [])


def summary(result: Mapping[str, Any], target: str) -> str:
    """Scores with their intervals, and the gates, as Markdown tables."""
    parts = [f"## finetune: {target}, {result['split']}, {result['n']:,} rows", "", "| metric | score | interval |"]
    parts.append("| --- | ---: | ---: |")
    for name, score in result["metrics"].items():
        low, high = score.get("low"), score.get("high")
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        value = "undefined" if score["value"] is None else f"{score['value']:.3f}"
        parts.append(f"| {name} | {value} | {interval} |")
    if result.get("gates"):
        parts += ["", "| gate | found | |", "| --- | ---: | --- |"]
        for gate in result["gates"]:
            found = "" if gate["found"] is None else f"{gate['found']:.4f}"
            parts.append(f"| `{gate['gate']}` | {found} | {'passed' if gate['passed'] else '**failed**'} |")
    return "\n".join(parts) + "\n"


def append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with open(path, "a", encoding="utf-8") as file:
            file.write(text[:MAX_SUMMARY_BYTES])


def main() -> int:
    inputs = os.environ
    if not (inputs.get("CONFIG") or inputs.get("TARGET")):
        print("::error::Nothing to do: give the input config, target, or both.", file=sys.stderr)
        return USAGE
    code = 0
    if inputs.get("CONFIG"):
        code = subprocess.run(["finetune", *train_command(inputs)], check=False).returncode
    if code in (0, 4):  # a gate of the config that failed is judged, and shown, with the others below
        done = subprocess.run(["finetune", *evaluate_command(inputs)], stdout=subprocess.PIPE, text=True, check=False)
        code = done.returncode or code
        if done.returncode in (0, 4):
            RESULT.write_text(done.stdout, encoding="utf-8")
            append("GITHUB_STEP_SUMMARY", summary(json.loads(done.stdout), inputs.get("TARGET") or inputs["CONFIG"]))
            append("GITHUB_OUTPUT", f"result={RESULT}\n")
    append("GITHUB_OUTPUT", f"exit-code={code}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
