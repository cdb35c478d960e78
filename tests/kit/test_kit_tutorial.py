"""The tutorial of docs/testing.md: each of its blocks runs as pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
BLOCK = re.compile(r"^```\w+\n# (?P<name>[\w.]+)(?P<more>, continued)?\n(?P<text>.*?)^```$", re.M | re.S)


def test_the_tutorial(tmp_path: Path) -> None:
    """The files that it has a reader paste make a project whose tests pass, warnings included."""
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        with (tmp_path / block["name"]).open("a" if block["more"] else "w") as file:
            file.write(block["text"])
    assert {each.name for each in tmp_path.iterdir()} >= {"shop.py", "conftest.py", "test_calls.py"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-W",
        "error",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout
