#!/usr/bin/env python3
"""Checks the library on a machine with a GPU: tests, sanitizers, benchmarks, one table.

    python tools/gpu_check.py                  # all stages; those that are done already are left out
    python tools/gpu_check.py --stage kernels train --fresh

Builds and installs the library first where the installed one lacks CUDA. A stage takes at most eight
minutes; what it printed lies in .gpu_check/STAGE.log, and a run that was stopped goes on where it was,
as long as the commit is the same. Figures are appended to bench/results/GPU.csv.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".gpu_check"
LIMIT = 480  # seconds of one stage
FOUND = 9  # compute-sanitizer's exit code where it reports something


@dataclass
class Stage:
    """A command and how to read its outcome."""

    name: str
    command: list[str]
    table: bool = False  # whether it writes rows to WORK/name.json
    known: str = ""  # files whose reports are not faults (docs/attention.md says why)


def pytest(*arguments: str, workers: int = 0) -> list[str]:
    """A pytest command; with workers where pytest-xdist is there."""
    parallel = importlib.util.find_spec("xdist") is not None and workers
    spread = ["-n", str(workers)] if parallel else []
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *spread, *arguments]


def bench(subject: str, name: str, *options: str) -> list[str]:
    """A benchmark command."""
    return [sys.executable, "-m", "bench", subject, "--json", str(WORK / f"{name}.json"), *options]


def sanitizer(tool: str) -> list[str]:
    """compute-sanitizer over the marked tests. Calls that fail are not its subject: asking the driver
    about a pointer that it does not know is one, and tests provoke others."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    return [
        program,
        "--tool",
        tool,
        "--error-exitcode",
        str(FOUND),
        *pytest("-m", "sanitizer", "tests"),
    ]


STAGES = [
    Stage(
        "gpu",
        pytest(
            "-m",
            "gpu",
            "tests",
            "--ignore=tests/ops",
            "--ignore=tests/cuda/test_parity.py",
            workers=4,
        ),
    ),
    Stage("grid", pytest("-m", "gpu", "tests/ops", workers=4)),
    Stage("cpu", pytest("-m", "not gpu", "tests/ops", workers=8)),
    *(
        Stage(f"parity {name}", pytest("-s", "tests/cuda/test_parity.py", "-k", name))
        for name in ("reversal", "minigpt", "vit", "gpt2")
    ),
    *(Stage(tool, sanitizer(tool)) for tool in ("memcheck", "initcheck")),
    Stage("racecheck", sanitizer("racecheck"), known=r"hopper_(forward|backward)\.py"),
    Stage("overhead", bench("gpu_overhead", "overhead"), table=True),
    Stage("bandwidth", bench("kernels", "bandwidth", "--only", "bandwidth"), table=True),
    Stage("kernels", bench("kernels", "kernels", "--only", "special"), table=True),
    Stage("fused", bench("kernels", "fused", "--only", "fused"), table=True),
    Stage("suite", bench("kernels", "suite", "--only", "suite"), table=True),
    Stage("launch", bench("triton_launch", "launch"), table=True),
    Stage("attention", bench("attention", "attention"), table=True),
    Stage("train", bench("train", "train", "--device", "cuda"), table=True),
]


def output(*command: str) -> str:
    """What a command prints, or nothing where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def build() -> None:
    """Installs the library unless one with CUDA is there."""
    code = "import vibetensor.cuda as c; import sys; sys.exit(not c.is_available())"
    if subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0:
        return
    isolated = [] if output("which", "meson") == "" else ["--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-Csetup-args=-Dcuda=enabled", *isolated, "."],
        cwd=ROOT,
        check=True,
    )


def run(stage: Stage) -> dict[str, object]:
    """Runs a stage; its outcome as the state keeps it."""
    begin = time.monotonic()
    with (WORK / f"{stage.name}.log").open("w") as log:
        try:
            code = subprocess.run(
                stage.command,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    text = (WORK / f"{stage.name}.log").read_text(errors="replace")
    counts = re.findall(r"^.*\d+ (?:passed|failed|error).*$", text, re.MULTILINE)
    summary = counts[-1].strip("= ") if counts else ""
    places = re.findall(r"access at .* in (\S+):\d+", text)
    if code == FOUND and stage.known and places and all(re.match(stage.known, p) for p in places):
        code = int("failed" in summary)
        summary += f"; known reports in {', '.join(sorted(set(places)))}"
    return {"code": code, "seconds": round(time.monotonic() - begin), "summary": summary}


def rows_of(stage: Stage) -> list[dict[str, object]]:
    """The rows that a benchmark wrote."""
    path = WORK / f"{stage.name}.json"
    return json.loads(path.read_text())["rows"] if stage.table and path.exists() else []


def append(device: str, commit: str, stage: Stage) -> None:
    """Adds a stage's rows to the results of this device."""
    path = ROOT / "bench" / "results" / (re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-") + ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [
        "date",
        "commit",
        "stage",
        "name",
        "unit",
        "ours",
        "torch",
        "ratio",
        "bound",
        "verdict",
    ]
    new = not path.exists()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(names)
        for row in rows_of(stage):
            figures = [f"{row[n]:.4g}" for n in ("ours_median", "peer_median", "ratio")]
            found = [row["name"], row["unit"], *figures, row["bound"], row["verdict"]]
            writer.writerow([today, commit, stage.name, *found])


def show(state: dict[str, dict[str, object]]) -> None:
    """One table of everything."""
    print(f"\n{'stage':10} {'code':>4} {'s':>5}  outcome")
    for name, found in state.items():
        print(f"{name:10} {found['code']:>4} {found['seconds']:>5}  {found['summary']}")
    rows = [row for stage in STAGES if stage.name in state for row in rows_of(stage)]
    if rows:
        width = max(len(str(row["name"])) for row in rows)
        print(f"\n{'':{width}} {'ours':>12} {'torch':>12} {'':3} {'ratio':>7} {'bound':>6}")
    for row in rows:
        bound = "" if row["bound"] is None else f"{row['bound']:.2f}"
        print(
            f"{row['name']:{width}} {row['ours_median']:12,.1f} {row['peer_median']:12,.1f} "
            f"{row['unit']:3} {row['ratio']:7.3f} {bound:>6} {row['verdict']}"
        )


def main() -> int:
    """Runs the stages that are asked for; 0 if all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", nargs="*", choices=[s.name for s in STAGES], help="only these")
    parser.add_argument("--fresh", action="store_true", help="run again what was done already")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    build()
    code = "import vibetensor.cuda as c; print(c.get_device_name())"
    device = output(sys.executable, "-c", code) or "unknown"
    commit = output("git", "rev-parse", "--short", "HEAD") or "unknown"
    path = WORK / "state.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    state = kept.get("stages", {}) if kept.get("commit") == commit else {}
    print(f"{device}, commit {commit}")
    for stage in STAGES:
        if options.stage and stage.name not in options.stage:
            continue
        if stage.name in state and not options.fresh:
            continue
        print(f"{stage.name} ...", flush=True)
        state[stage.name] = run(stage)
        path.write_text(json.dumps({"commit": commit, "stages": state}))
        if stage.table and state[stage.name]["code"] == 0:
            append(device, commit, stage)
    show(state)
    return int(any(found["code"] for found in state.values()))


if __name__ == "__main__":
    sys.exit(main())
