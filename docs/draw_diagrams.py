"""Draws docs/diagrams/*.svg: a call's way, a subscription's states, the phases of a shutdown.

They take the colours of the page that they stand in. Run by `make docs`.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "diagrams"
ACCENT, SOFT = "#5c6bc0", "#5c6bc033"


class Picture:
    """Boxes, arrows and words, in the order in which they are drawn."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = width, height
        self.title = title
        self.parts: list[str] = []

    def box(self, x: int, y: int, width: int, height: int, text: str, *, filled: bool = False) -> None:
        """A box with words in its middle; lines are split at a bar."""
        fill = SOFT if filled else "none"
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" '
            f'stroke="{ACCENT}" stroke-width="1.5"/>'
        )
        lines = text.split("|")
        top = y + height / 2 - 8 * (len(lines) - 1) + 5
        for number, line in enumerate(lines):
            weight = ' font-weight="600"' if number == 0 else ' opacity="0.75"'
            self.word(x + width / 2, top + 16 * number, line, anchor="middle", extra=weight)

    def word(self, x: float, y: float, text: str, *, anchor: str = "start", extra: str = "") -> None:
        """Words."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>')

    def arrow(
        self, *points: tuple[float, float], text: str = "", at: tuple[float, float] | None = None
    ) -> None:
        """A line with a head at its end."""
        path = " ".join(f"{'M' if not n else 'L'}{x:g} {y:g}" for n, (x, y) in enumerate(points))
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.3" marker-end="url(#head)"/>'
        )
        if text and at is not None:
            self.word(*at, text, anchor="middle", extra=' font-size="12" opacity="0.85"')

    def span(self, x: int, y: int, width: int, text: str) -> None:
        """A measured stretch: a limit."""
        self.parts.append(
            f'<path d="M{x} {y - 5}v10M{x + width} {y - 5}v10M{x} {y}h{width}" fill="none" '
            f'stroke="{ACCENT}" stroke-width="1.5"/>'
        )
        self.word(x + width / 2, y - 8, text, anchor="middle", extra=' font-size="12"')

    def text(self) -> str:
        """The file."""
        width, height = self.size
        head = (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>'
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="system-ui, sans-serif" font-size="13" fill="currentColor">'
            f"<title>{escape(self.title)}</title>{head}{''.join(self.parts)}</svg>\n"
        )


def call() -> Picture:
    """Where a call's time goes, and which limit holds over what."""
    made = Picture(860, 250, "A call: validation, attempts and waits, each with its limit")
    made.span(20, 34, 820, "timeout.total: 30 s, over everything")
    for x, width, text, filled in (
        (20, 110, "validation|once each", False),
        (140, 190, "attempt 1|503", True),
        (340, 90, "wait|full jitter", False),
        (440, 190, "attempt 2|reset", True),
        (640, 70, "wait|longer", False),
        (720, 120, "attempt 3|answer", True),
    ):
        made.box(x, 60, width, 60, text, filled=filled)
    made.span(140, 150, 296, "timeout.attempt: no limit")
    made.span(140, 192, 90, "pool: 5 s")
    made.span(236, 192, 94, "connect: 5 s")
    made.span(336, 192, 100, "read: 10 s")
    made.word(446, 196, "of silence, not of the whole answer", extra=' font-size="12" opacity="0.85"')
    made.word(
        440, 154, "a mutation that may have run is not sent again", extra=' font-size="12" opacity="0.85"'
    )
    made.word(
        20,
        236,
        "A wait that does not fit into what is left of the total is not begun.",
        extra=' opacity="0.85"',
    )
    return made


def subscription() -> Picture:
    """Its states, and what leads from one to the next."""
    made = Picture(860, 250, "The states of a subscription")
    made.box(20, 90, 130, 56, "connecting|first try", filled=True)
    made.box(300, 90, 140, 56, "subscribed|events come", filled=True)
    made.box(600, 90, 130, 56, "down|events are missing", filled=True)
    made.box(300, 190, 140, 44, "ended", filled=True)
    made.arrow((150, 118), (300, 118), text="acknowledged", at=(225, 110))
    made.arrow((440, 104), (600, 104), text="lost, silent, reconnect()", at=(520, 96))
    made.arrow((600, 132), (440, 132), text="acknowledged: a gap", at=(520, 150))
    made.arrow(
        (640, 90), (640, 50), (700, 50), (700, 90), text="the next attempt fails: backoff", at=(670, 42)
    )
    made.arrow((370, 146), (370, 190), text="", at=None)
    made.word(380, 172, "complete, error, unsubscribe", extra=' font-size="12" opacity="0.85"')
    made.arrow((85, 146), (85, 212), (300, 212), text="4 attempts failed: subscribe() raises", at=(190, 204))
    made.arrow((665, 146), (665, 212), (440, 212), text="fatal close, refused, max_reconnects", at=(555, 204))
    return made


def shutdown() -> Picture:
    """Its phases, and what a caller meets in each."""
    made = Picture(860, 210, "The phases of a shutdown")
    made.span(20, 34, 660, "shutdown.deadline: 25 s")
    phases = (
        (20, "before|hooks"),
        (185, "subscriptions|end after their queue"),
        (350, "requests|calls finish"),
        (515, "close|the session, if ours"),
        (680, "after|hooks"),
    )
    for x, text in phases:
        made.box(x, 60, 155, 56, text, filled=True)
    for x, _ in phases[1:]:
        made.arrow((x - 10, 88), (x, 88))
    made.arrow(
        (505, 150), (505, 118), text="at the deadline the rest is cut: ClientClosedError", at=(505, 166)
    )
    made.word(20, 150, "new work is refused from here on", extra=' font-size="12" opacity="0.85"')
    made.word(20, 196, "draining", extra=' font-weight="600"')
    made.word(515, 196, "closing", extra=' font-weight="600"')
    made.word(790, 196, "closed", extra=' font-weight="600"')
    return made


def main() -> int:
    """Write them, or with ``--check`` say whether they are as they would be written."""
    wanted = {f"{each.__name__}.svg": each().text() for each in (call, subscription, shutdown)}
    if "--check" in sys.argv:
        old = [name for name, text in wanted.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
        print("\n".join(old) or "current")
        return 1 if old else 0
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
