"""What a subscription hands over: numbers that shall come once each, and in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscriptionEvent

COUNT = "subscription Count($from: Int, $to: Int) { count(from: $from, to: $to) }"


class Events:
    """What came of the numbers below ``end``."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.numbers: list[int] = []
        self.gaps: list[int] = []
        """For each gap that was told, how many numbers had come before it."""
        self.halfway: asyncio.Event = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the last of them came; how many of the others did is another question."""
        return self.end - 1 in self.numbers

    @property
    def whole(self) -> bool:
        """Whether each came once, and in order."""
        return self.numbers == list(range(self.end))

    # Not a plain function: the stock client would run it in a thread, and in any order.
    async def take(self, event: GraphQLSubscriptionEvent) -> None:
        """For ``on_data``."""
        self.numbers.append(number_of(event))
        if len(self.numbers) >= self.end // 2:
            self.halfway.set()

    def gap(self, _: object) -> None:
        """For ``on_gap``."""
        self.gaps.append(len(self.numbers))


def onward(last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> dict[str, Any]:
    """For ``resume``: the cursor goes behind the last number that came."""
    return variables if last is None else {**variables, "from": number_of(last) + 1}


def number_of(event: GraphQLSubscriptionEvent) -> int:
    """The number that an event brings."""
    return int(event.json["payload"]["data"]["count"])
