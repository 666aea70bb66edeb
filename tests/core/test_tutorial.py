"""The first ten minutes of docs/handlers.md, as a newcomer would spend them: its files are written out and its tests run."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"


def test_the_handler_and_the_tests_of_the_first_ten_minutes_work(tmp_path: Path) -> None:
    section = PAGE.read_text().split("## The first ten minutes")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names = re.findall(r"`(\w+\.py)`", section)[:2]
    assert len(blocks) == len(names) == 2
    for name, block in zip(names, blocks, strict=True):
        (tmp_path / name).write_text(block)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=tmp_path, capture_output=True, text=True,
                         timeout=60, check=False, env=os.environ | {"PYTHONPATH": path})  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
