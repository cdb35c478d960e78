"""The show: all scenes by our client, then by the stock client, then both beside each other."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from graphql_prod.demo import words
from graphql_prod.demo.journal import listening
from graphql_prod.demo.outcome import measured
from graphql_prod.demo.process import Work
from graphql_prod.demo.scenes import SCENES
from graphql_prod.demo.stage import staged
from graphql_prod.demo.summary import Pair, summarize, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphql_prod.demo.journal import Failed
    from graphql_prod.demo.outcome import Outcome
    from graphql_prod.demo.process import Cast
    from graphql_prod.demo.scenes import Scene
    from graphql_prod.demo.screen import Screen
    from graphql_prod.demo.stage import Stage
    from graphql_prod.sessions.policy import Backend

PATIENCE = 6.0


async def show(screen: Screen, backend: Backend, scenes: Sequence[Scene] = SCENES) -> int:
    """Play all scenes twice; returns the exit status."""
    screen.say(f"A GraphQL server behind a bad network, all on this machine; {backend} underneath.", "bold")
    screen.say("The client has its defaults, but waits between attempts of 0.25 s, doubling, without jitter.")
    screen.say("A subscription that was lost waits up to 0.25 s, drawn by chance, before each attempt.")
    ours = await _play_all(screen, "graphql_prod", backend, scenes)
    stock = await _play_all(screen, "stock", backend, scenes)
    pairs = [Pair(*row) for row in zip(count(1), scenes, ours, stock)]
    summarize(screen, pairs)
    return verdict(screen, pairs)


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
    stage.tell, stage.quote = teller.network, teller.printed
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
        self._line("", f"* {text}", "", "magenta")

    def printed(self, text: str) -> None:
        """Something that a program printed."""
        self._screen.quote(text)

    def failed(self, failed: Failed) -> None:
        """An attempt that is not the last."""
        self._attempts += 1
        wire = f"{self._arrival()}: {words.fate(failed)}"
        self._line(self._attempts, wire, words.decision(failed), "yellow")

    def ended(self, outcome: Outcome) -> None:
        """The last attempt, and with it the call."""
        attempt = getattr(outcome.error, "attempts", max(self._attempts + 1, len(outcome.requests)))
        if isinstance(outcome.result, Work):
            attempt = "-"  # several calls, and nobody counts theirs
        wire = f"{self._arrival()}: {words.last_fate(outcome)}"
        style = "green" if outcome.kind == "answer" else "red"
        self._line(attempt, wire, words.ending(outcome), style)

    def seen(self, outcome: Outcome) -> Outcome:
        """The outcome with what the server recorded of this scene."""
        requests, executions = self._first
        return outcome.seen_by(self._stage.arrivals[requests:], self._records()[1] - executions)

    def _arrival(self) -> str:
        before, self._seen = self._seen, self._records()
        return words.arrival(self._seen[0] - before[0], self._seen[1] - before[1])

    def _records(self) -> tuple[int, int]:
        return len(self._stage.arrivals), self._stage.server.executions["increment"]

    def _line(self, attempt: int | str, wire: str, client: str, style: str) -> None:
        seconds = time.perf_counter() - self._began
        self._screen.line(seconds, self._number, attempt, wire, client, style)
