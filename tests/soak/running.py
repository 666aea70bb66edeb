"""`hooktape soak` as a process, with its report."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def soak(tmp_path: Path, *words: str) -> "tuple[subprocess.CompletedProcess[str], dict[str, object]]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
    env |= {"HOOKTAPE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "hooktape", "soak", "--json", str(report), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    return done, json.loads(report.read_text()) if report.exists() else {}
