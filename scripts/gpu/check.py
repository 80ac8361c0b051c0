"""Everything that only a GPU can show, in at most 8 minutes: python -m scripts.gpu.check [--out DIRECTORY] [--dry-run]

Each step is a process of its own, so that a crash ends that step alone. Writes gpu_check.json and gpu_check.txt. Asks
nothing of the network. --dry-run: on the CPU, which shows that the steps themselves work.
Exit code 0: all steps passed or were skipped; 1: one failed; 5: there is no GPU, and no --dry-run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # which may hold the wheels
LIMIT_SECONDS = 480
STEP_SECONDS = 150
# The order is that of importance: what no longer fits into the time is left out.
ORDER = (
    "devices",
    "graphs",
    "graphs_refused",
    "precisions",
    "resume",
    "predictions",
    "synchronisations",
    "packing",
    "one_process_group",
    "two_on_one_device",
    "sharded",
    "out_of_memory",
    "compiled",
    "families",
)


def run_step(name: str, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f"gpu-check-{name}-") as directory:
        done = run_module(["scripts.gpu.steps", name, directory], seconds, environment)
    if done is None:
        return {"state": "failed", "reason": f"not over after {seconds:.0f} s", "seconds": round(seconds, 1)}
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        result = {"state": "failed", "reason": f"exit code {done.returncode}"}
    return result | ({"log": done.stderr.splitlines()[-15:]} if result["state"] == "failed" else {})


def run_module(
    arguments: list[str], seconds: float, environment: dict[str, str]
) -> subprocess.CompletedProcess[str] | None:
    """`python -m` with these arguments; None when it is not over in time."""
    try:
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8",
            errors="replace", timeout=seconds, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None


def speed(model: Path, file: Path, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """What scripts/gpu/speed.py measures with this model, as far as the time allows; file: where it writes it."""
    began = time.monotonic()
    done = run_module(["scripts.gpu.speed", "--model", str(model), "--out", str(file.parent)], seconds, environment)
    taken = round(time.monotonic() - began, 1)
    failed = (done.stderr.splitlines() or ["?"])[-1] if done is not None and done.returncode else None
    if failed is not None or not file.exists():  # of one that is not over, what was measured stands in the file
        return {"state": "failed", "reason": failed or "nothing was measured", "seconds": taken}
    return {"state": "passed", "facts": json.loads(file.read_text(encoding="utf-8")), "seconds": taken}


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'step':<20}{'state':<9}{'s':>7}  what was seen"]
    for name, result in results.items():
        seen = result.get("reason") or json.dumps(result.get("facts", {}))
        lines.append(f"{name:<20}{result['state']:<9}{result.get('seconds', 0):>7}  {seen}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("."), help="where the two files go (default: here)")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, to try the steps themselves")
    parser.add_argument("--model", type=Path, help="a directory: measure speed with it, see scripts/bench/base.py")
    parser.add_argument("--only", nargs="+", choices=ORDER, default=ORDER, help="these steps")
    options = parser.parse_args()
    import torch

    if not (torch.cuda.is_available() or options.dry_run):
        sys.stderr.write("No GPU is visible here. Try the steps on the CPU: --dry-run\n")
        return 5
    began, results = time.monotonic(), {}
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.dry_run else {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-cache-") as cache:
        environment = {**os.environ, "FINETUNE_CACHE": cache, "HF_HUB_OFFLINE": "1", "PYTHONPATH": PYTHONPATH, **hidden}
        for name in options.only:
            left = LIMIT_SECONDS - (time.monotonic() - began)
            if left < 15:
                results[name] = {"state": "skipped", "reason": "no time was left"}
                continue
            sys.stderr.write(f"{name} ...\n")
            results[name] = run_step(name, min(STEP_SECONDS, left), environment)
        left = LIMIT_SECONDS - (time.monotonic() - began)
        if options.model is not None and left > 60:
            sys.stderr.write("speed ...\n")
            results["speed"] = speed(options.model, Path(cache) / "speed.json", left, environment)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"dry_run": options.dry_run, "seconds": round(time.monotonic() - began, 1), "steps": results}
    (options.out / "gpu_check.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (options.out / "gpu_check.txt").write_text(table(results), encoding="utf-8")
    sys.stdout.write(table(results))
    return int(any(result["state"] == "failed" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
