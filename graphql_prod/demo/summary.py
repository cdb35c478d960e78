"""Both clients beside each other, and the verdict on ours."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from graphql_prod.demo import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql_prod.demo.outcome import Outcome
    from graphql_prod.demo.scenes import Scene
    from graphql_prod.demo.screen import Screen

COLUMNS = {
    "scene": 28,
    "client": 0,
    "the caller gets": 38,
    "time": 0,
    "reached\nserver": 0,
    "mutation\nran": 0,
}


class Pair(NamedTuple):
    """A scene as it ended for both."""

    number: int
    scene: Scene
    ours: Outcome
    stock: Outcome

    @property
    def kept(self) -> bool:
        """Whether ours ended as promised."""
        return self.scene.kept(self.ours)


def summarize(screen: Screen, pairs: Sequence[Pair]) -> None:
    """The table."""
    screen.title("Both beside each other, as measured just now")
    screen.table(COLUMNS, map(_rows, pairs))


def verdict(screen: Screen, pairs: Sequence[Pair]) -> int:
    """The last words; returns the exit status. Every broken promise has a line on stderr."""
    broken = [pair for pair in pairs if not pair.kept]
    kinds = Counter(pair.stock.kind for pair in pairs)
    screen.say(f"\ngraphql_prod: {len(pairs) - len(broken)} of {len(pairs)} scenes ended as promised.")
    screen.say(f"stock client: {', '.join(f'{count} x {kind}' for kind, count in kinds.most_common())}.")
    for number, scene, ours, _ in broken:
        sys.stderr.write(
            f"graphql_prod demo: scene {number} ({scene.title}) did not end as promised, "
            f"which was: {scene.promise}. It ended with {words.ended(ours)}\n"
        )
    return 1 if broken else 0


def _rows(pair: Pair) -> list[tuple[tuple[str, ...], str]]:
    title = f"{pair.number} {pair.scene.title}"
    mark = "" if pair.kept else "NOT AS PROMISED: "
    return [
        ((title, "ours", mark + words.ended(pair.ours), *_figures(pair.ours)), _style(good=pair.kept)),
        (
            ("", "stock", words.ended(pair.stock), *_figures(pair.stock)),
            _style(good=pair.stock.kind == "answer"),
        ),
    ]


def _style(*, good: bool) -> str:
    return "green" if good else "red"


def _figures(outcome: Outcome) -> tuple[str, str, str]:
    return f"{outcome.seconds:.2f} s", str(len(outcome.requests)), str(outcome.executions or "-")
