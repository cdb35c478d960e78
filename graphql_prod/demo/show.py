"""The show: all scenes by our client, then by the stock client, then both beside each other."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from graphql_prod.demo import words
from graphql_prod.demo.journal import listening
from graphql_prod.demo.outcome import measured
from graphql_prod.demo.scenes import SCENES
from graphql_prod.demo.stage import staged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql_prod.demo.journal import Failed
    from graphql_prod.demo.outcome import Outcome
    from graphql_prod.demo.scenes import Scene
    from graphql_prod.demo.screen import Screen
    from graphql_prod.demo.stage import Cast, Stage
    from graphql_prod.session import Backend

PATIENCE = 6.0


async def show(screen: Screen, backend: Backend, scenes: Sequence[Scene] = SCENES) -> int:
    """Play all scenes twice; returns the exit status."""
    screen.say(f"A GraphQL server behind a bad network, all on this machine; {backend} underneath.", "bold")
    screen.say("The client has its defaults, but waits between attempts of 0.25 s, doubling, without jitter.")
    ours = await _play_all(screen, "graphql_prod", backend, scenes)
    stock = await _play_all(screen, "stock", backend, scenes)
    _summarize(screen, scenes, ours, stock)
    return _verdict(screen, scenes, ours, stock)


async def _play_all(screen: Screen, cast: Cast, backend: Backend, scenes: Sequence[Scene]) -> list[Outcome]:
    names = {
        "graphql_prod": "graphql_prod: ProductionClient",
        "stock": "The same with the stock GraphQLClient",
    }
    screen.title(names[cast])
    screen.head()
    async with staged(cast, backend) as stage:
        return [await _play(screen, stage, number, scene) for number, scene in enumerate(scenes, 1)]


async def _play(screen: Screen, stage: Stage, number: int, scene: Scene) -> Outcome:
    screen.say(f"\nScene {number}: {scene.title}", "bold cyan")
    teller = Teller(screen, stage, number)
    stage.tell = teller.network
    with listening(teller.failed):
        outcome = teller.seen(await measured(scene.play(stage), PATIENCE))
    teller.ended(outcome)
    if stage.cast == "graphql_prod":
        _judge(screen, scene, outcome)
    return outcome


def _judge(screen: Screen, scene: Scene, outcome: Outcome) -> None:
    kept = scene.kept(outcome)
    screen.say(
        f"  {'as promised' if kept else 'NOT AS PROMISED'}: {scene.promise}", "dim" if kept else "bold red"
    )


class Teller:
    """Tells one scene as it happens: what the client logs, beside what the server has recorded."""

    def __init__(self, screen: Screen, stage: Stage, number: int) -> None:
        self._screen = screen
        self._stage = stage
        self._number = number
        self._began = time.perf_counter()
        self._attempts = 0
        self._first = self._seen = self._records()

    def network(self, text: str) -> None:
        """Something that no client did."""
        self._line("", text.upper(), "", "magenta")

    def failed(self, failed: Failed) -> None:
        """An attempt that is not the last."""
        self._attempts = failed.attempt
        self._line(
            failed.attempt, f"{self._arrival()}: {words.fate(failed)}", words.decision(failed), "yellow"
        )

    def ended(self, outcome: Outcome) -> None:
        """The last attempt, and with it the call."""
        attempt = getattr(outcome.error, "attempts", max(self._attempts + 1, len(outcome.requests)))
        wire = f"{self._arrival()}: {words.last_fate(outcome)}"
        style = "green" if outcome.kind == "answer" else "red"
        self._line(attempt, wire, words.ending(outcome), style)

    def seen(self, outcome: Outcome) -> Outcome:
        """The outcome with what the server recorded of this scene."""
        requests, executions = self._first
        return outcome.seen_by(self._stage.server.requests[requests:], self._records()[1] - executions)

    def _arrival(self) -> str:
        before, self._seen = self._seen, self._records()
        return words.arrival(self._seen[0] - before[0], self._seen[1] - before[1])

    def _records(self) -> tuple[int, int]:
        server = self._stage.server
        return len(server.requests), server.executions["increment"]

    def _line(self, attempt: int | str, wire: str, client: str, style: str) -> None:
        seconds = time.perf_counter() - self._began
        self._screen.line(seconds, self._number, attempt, wire, client, style)


def _summarize(
    screen: Screen, scenes: Sequence[Scene], ours: Sequence[Outcome], stock: Sequence[Outcome]
) -> None:
    screen.title("Both beside each other, as measured just now")
    columns = ("scene", "client", "the caller gets", "time", "reached\nserver", "mutation\nran")
    rows = zip(range(1, len(scenes) + 1), scenes, ours, stock, strict=True)
    screen.table(
        columns,
        (
            (
                (
                    _cells(f"{number} {scene.title}", "ours", mine),
                    "green" if scene.kept(mine) else "bold red",
                ),
                (_cells("", "stock", theirs), "" if theirs.kind == "answer" else "red"),
            )
            for number, scene, mine, theirs in rows
        ),
    )


def _cells(title: str, client: str, outcome: Outcome) -> tuple[str, ...]:
    executions = str(outcome.executions) if outcome.executions else "-"
    return (
        title,
        client,
        words.ended(outcome),
        f"{outcome.seconds:.2f} s",
        str(len(outcome.requests)),
        executions,
    )


def _verdict(
    screen: Screen, scenes: Sequence[Scene], ours: Sequence[Outcome], stock: Sequence[Outcome]
) -> int:
    numbered = enumerate(zip(scenes, ours, strict=True), 1)
    broken = [(number, scene) for number, (scene, outcome) in numbered if not scene.kept(outcome)]
    kinds = Counter(outcome.kind for outcome in stock)
    screen.say(f"graphql_prod: {len(scenes) - len(broken)} of {len(scenes)} scenes ended as promised.")
    screen.say(f"stock client: {', '.join(f'{count} x {kind}' for kind, count in kinds.most_common())}.")
    for number, scene in broken:
        sys.stderr.write(
            f"graphql_prod demo: scene {number} ({scene.title}) did not end as promised: {scene.promise}\n"
        )
    return 1 if broken else 0
