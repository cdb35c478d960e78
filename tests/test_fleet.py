"""What the policies do to an upstream when a whole fleet has them: the figures of docs/admission.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def printed() -> str:
    """What the simulation prints for a busy client and for a hundred quiet ones; the same each time."""
    command = [sys.executable, "-m", "benchmarks.fleet", "--replicas", "1", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(printed: str, trouble: str, kind: str, replicas: int) -> tuple[float, float, float]:
    """Attempts for each call, the fullest second after the trouble, and seconds until all was well."""
    part = printed.partition(f"\n{trouble}\n")[2]
    pattern = rf"^{re.escape(kind)} +{replicas} +\d+ +\d+ +([\d.]+) +([\d.]+) +(\d+) s$"
    found = re.search(pattern, part, re.MULTILINE)
    assert found is not None, printed
    return float(found[1]), float(found[2]), float(found[3])


@pytest.mark.parametrize("replicas", [1, 100])
def test_an_outage(printed: str, replicas: int) -> None:
    """The calls and the reserve without admission, a part of the load with it; then all is well soon."""
    attempts, worst, well = row(printed, "outage of 60 s", "ours", replicas)
    assert attempts <= 1.2
    assert worst <= 1.2
    admitted, worst, well = row(printed, "outage of 60 s", "ours + admission", replicas)
    assert admitted <= 0.5
    assert worst <= 1.2
    assert well <= 10
    assert row(printed, "outage of 60 s", "no budget", replicas)[0] > 3.5


def test_the_page_says_what_is_printed(printed: str) -> None:
    """The table of docs/admission.md is that of the program."""
    page = (ROOT / "docs" / "admission.md").read_text(encoding="utf-8")
    for trouble, kinds in (("outage of 60 s", ("ours", "ours + admission", "no budget")),):
        for replicas in (1, 100):
            for kind in kinds:
                attempts, worst, _ = row(printed, trouble, kind, replicas)
                assert f"{attempts:.2f}, {worst:.1f}" in page, (kind, replicas)


def test_sockets(printed: str) -> None:
    """After half a minute no second sees a tenth of the reconnects, and all are back within half a minute."""
    (line,) = re.findall(r"^wait_initial 0.5 +(.*)$", printed, re.MULTILINE)
    cells = [(float(share), float(back)) for share, back in re.findall(r"([\d.]+)%, +(\d+) s", line)]
    assert len(cells) == 7
    assert all(share <= 10 and back <= 60 for share, back in cells[4:])
