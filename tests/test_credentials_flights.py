"""One flight of an async headers_provider at a time, whoever meets at it: no caller waits for ever.

The programs run in processes of their own: a loop that stands still would stop this one's limits too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, str(PROGRAMS / f"{program}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["no step", "one step", "fails", "fails late", "overruns", "cancelled"])
def test_every_meeting(kind: str) -> None:
    """A call starts a flight, refused ones come in the same round or later: all end, with one renewal."""
    assert run("provider_interleavings", kind) == "done"


@pytest.mark.parametrize("steps", ["0", "1", "3"])
def test_tokens_that_rotate_under_load(steps: str, unused_tcp_port: int) -> None:
    """Many callers, and a token that expires again and again: no call is lost, and the loop goes on."""
    rotations = 60
    assert int(run("provider_rotation", steps, str(rotations), str(unused_tcp_port))) >= rotations * 10
