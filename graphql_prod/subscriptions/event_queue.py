"""What has come for a subscription and was not taken yet: bounded, in order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.protocol import EVENTS, Message

if TYPE_CHECKING:
    from graphql_prod.subscriptions.policy import Overflow

Item = Message | SubscriptionGap

# Rounds of the loop until a reader that can go on has gone on: the task that hands over, its worker, a spare.
TURNS = 4


def add(queue: deque[Any], item: object) -> None:
    """Append; a gap right after a gap becomes one with it, so that an outage does not fill a queue."""
    if isinstance(item, SubscriptionGap) and queue and isinstance(queue[-1], SubscriptionGap):
        before = queue.pop()
        item = dataclasses.replace(
            item,
            down_for=before.down_for + item.down_for,
            attempts=before.attempts + item.attempts,
            dropped=before.dropped + item.dropped,
        )
    queue.append(item)


class Downstream(Protocol):
    """Where events wait after they were taken: the queue of a subscription's callbacks."""

    def backlog(self) -> int:
        """How many of them wait there."""

    def length(self) -> int:
        """How many things wait there, other ones included."""

    def weight(self) -> int:
        """How many bytes they came in."""

    def drop_oldest(self) -> bool:
        """Throw the first of them away; False if there is none."""


class EventQueue:
    """Written by one channel, read by one task.

    :ivar dropped: events thrown away since this was last told.
    :ivar error: what the reader gets once everything before it was taken.
    :ivar handed: bytes of what was taken last, for whoever queues it once more.
    """

    __slots__ = (
        "_arrival",
        "_items",
        "_room",
        "_stalled",
        "_waiting",
        "_weight",
        "downstream",
        "dropped",
        "ended",
        "error",
        "events",
        "handed",
        "limit",
        "max_bytes",
        "overflow",
    )

    def __init__(self, limit: int, overflow: Overflow, max_bytes: int | None = None) -> None:
        self.limit: int = limit
        self.max_bytes: int | None = max_bytes
        self.handed: int = 0
        self._weight = 0
        """Bytes of all that is in here, as it came."""
        self.overflow = overflow
        self.downstream: Downstream | None = None
        self.events: int = 0
        self.dropped: int = 0
        self.ended: bool = False
        self.error: Exception | None = None
        # Most subscriptions are idle most of the time: an empty deque takes 600 bytes.
        self._items: deque[SubscriptionGap | tuple[Message, int]] | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._stalled = False
        self._waiting: tuple[Message, int] | None = None
        """An event that has been read and does not fit in yet, and its bytes."""

    @property
    def awaited(self) -> bool:
        """Whether a reader waits right now."""
        return self._arrival is not None and not self._arrival.done()  # one that gave up has cancelled it

    def is_full(self, size: int) -> bool:
        """Whether another event, of so many bytes, is one too many."""
        waiting = self.events if self.downstream is None else self.events + self.downstream.backlog()
        return waiting >= self.limit or (waiting > 0 and self.is_heavy(size))

    def is_heavy(self, size: int) -> bool:
        """Whether so many bytes more are too many."""
        if self.max_bytes is None:
            return False
        waiting = self._weight if self.downstream is None else self._weight + self.downstream.weight()
        return waiting + size > self.max_bytes

    def is_crowded(self, size: int) -> bool:
        """Whether so much waits that what is no event, and has so many bytes, need not wait too."""
        waiting = len(self._items or ()) + (0 if self.downstream is None else self.downstream.length())
        return waiting >= self.limit or self.is_heavy(size)

    def put(self, item: Item, size: int = 0) -> None:
        """Add what came, and the bytes of it; whether there is room is the writer's affair."""
        if self._items is None:
            self._items = deque()
        if isinstance(item, SubscriptionGap):
            add(self._items, item)
        else:
            self._items.append((item, size))
            self._weight += size
            if item["type"] in EVENTS:
                self.events += 1
        self._wake_reader()

    def take(self) -> Item | None:
        """The next item, or None if there is none now. What was dropped is told before anything else."""
        items = self._items
        if self.dropped and self.downstream is None:
            return self.gap_of(items)
        if not items:
            return None
        entry = items.popleft()
        if isinstance(entry, SubscriptionGap):
            return entry
        item, self.handed = entry
        self._weight -= self.handed
        if item["type"] in EVENTS:
            self.events -= 1
            self.taken()
        return item

    def gap_of(self, queue: deque[Any] | None) -> SubscriptionGap:
        """The gap that tells what was dropped; one that is next in the queue tells it too."""
        dropped, self.dropped = self.dropped, 0
        if queue and isinstance(queue[0], SubscriptionGap):
            return dataclasses.replace(queue[0], dropped=queue.popleft().dropped + dropped)
        return SubscriptionGap(close_reason="the queue was full", dropped=dropped)

    def taken(self) -> None:
        """An event went to its reader: there is room again."""
        self._stalled = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def arrival(self) -> asyncio.Future[None]:
        """Done when there is something to take again, or the end; asked for when there is neither."""
        self._items = None
        self._arrival = asyncio.get_running_loop().create_future()
        return self._arrival

    async def put_when_room(self, message: Message, size: int) -> None:
        """Add an event as soon as there is room for it. Safe to cancel."""
        self._waiting = message, size
        try:
            while self.is_full(size) and self._waiting is not None:
                self._room = asyncio.get_running_loop().create_future()
                try:
                    await self._room
                finally:
                    self._room = None
        finally:
            self._put_waiting()

    def _put_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.put(*waiting)

    async def turn(self, size: int) -> None:
        """Let a reader that can go on go on: a burst shall not cost one that keeps up any events."""
        for _ in range(TURNS):
            if self._stalled or not self.is_full(size):
                return
            await asyncio.sleep(0)
        self._stalled = self.is_full(size)

    def drop_oldest(self) -> None:
        """Throw the oldest event away, and count it."""
        if self.downstream is not None and self.downstream.drop_oldest():
            self.dropped += 1
            return
        for index, entry in enumerate(self._items or ()):
            if not isinstance(entry, SubscriptionGap) and entry[0]["type"] in EVENTS:
                assert self._items is not None  # noqa: S101 -- it was found in there
                del self._items[index]
                self.events -= 1
                self._weight -= entry[1]
                self.dropped += 1
                return

    def end(self, error: Exception | None = None) -> None:
        """Nothing more will come; the first word counts."""
        if not self.ended:
            self._put_waiting()
            self.ended = True
            self.error = error
            self._wake_reader()
            self.taken()

    def disown(self) -> object:
        """In a child that was forked: nothing is here any more, and nobody on the parent's loop is woken."""
        kept = (self._arrival, self._room)
        self.discard()
        self._arrival = self._room = self._waiting = None
        self.ended = True
        return kept

    def discard(self) -> None:
        """Throw away what nobody will read."""
        self._items = None
        self.events = self._weight = 0

    def _wake_reader(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)
