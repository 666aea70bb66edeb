"""The image: what enters its build, and as whom it runs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def let_through() -> set[str]:
    """The names at the top that .dockerignore lets into the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def linked() -> set[str]:
    """The folders that are the package, by the links to them."""
    return {link.resolve().name for link in (ROOT / "src/hooktape").iterdir() if link.is_symlink()}


def test_every_folder_that_the_package_links_to_enters_the_build() -> None:
    assert "ingest" in linked()
    assert linked() <= let_through()


def test_nothing_else_enters_that_could_hold_a_secret() -> None:
    assert let_through() - linked() == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"}


def test_every_data_file_of_those_folders_is_one_that_the_package_takes_along() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    tracked = subprocess.run(["git", "ls-files", *linked()], cwd=ROOT, capture_output=True, text=True).stdout.split()
    data = [Path(name) for name in tracked if not name.endswith(".py")]
    if not tracked:
        pytest.skip("not a git checkout")
    assert [path for path in data if not any(path.match(pattern) for pattern in patterns)] == []


def test_the_image_runs_as_nobody_in_particular_and_stops_when_asked() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    instructions = re.findall(r"^(FROM|USER|STOPSIGNAL|ENTRYPOINT)\s+(.+)$", dockerfile, re.MULTILINE)
    last_stage = instructions[max(i for i, (word, _) in enumerate(instructions) if word == "FROM") + 1 :]
    assert last_stage == [("USER", "hooktape"), ("STOPSIGNAL", "SIGTERM"), ("ENTRYPOINT", '["hooktape"]')]
