"""A subscription as an asynchronous iterator."""

from __future__ import annotations

import asyncio
import itertools
from contextvars import ContextVar
from typing import TYPE_CHECKING

from graphql_prod.errors import request_failed
from graphql_prod.response import GraphQLResponse
from graphql_prod.subscriptions.callbacks import tell_drop
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.member import cut_off
from graphql_prod.subscriptions.protocol import EVENTS, errors_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from aiographql.client import GraphQLSubscriptionEvent

    from graphql_prod.subscriptions.hub import Hub, Wish
    from graphql_prod.subscriptions.mailbox import Item
    from graphql_prod.subscriptions.member import Member


async def stream(
    hub: Hub, wished: Callable[[], Awaitable[Wish]], *, gaps: bool
) -> AsyncGenerator[GraphQLSubscriptionEvent | SubscriptionGap, None]:
    """The events of a subscription, and its gaps where they are wanted; unsubscribes when it is closed."""
    wish = await wished()
    member = hub.join(wish)
    del wished  # it keeps all that stream() was given
    reader = StreamReader(hub, member)
    cancelled = False
    try:
        await member.started()
        mailbox = member.mailbox
        while True:
            item = mailbox.take()
            if item is None:
                if mailbox.ended:
                    break
                await mailbox.arrival()
            elif isinstance(item, SubscriptionGap):
                if gaps:
                    reader.hands_over()
                    yield item
                else:
                    tell_drop(member.name, item)
            elif item["type"] in EVENTS:
                reader.hands_over()
                yield member.event(item)
            else:
                _raise_error(member, item)
        if mailbox.error is not None:
            raise mailbox.error
    except asyncio.CancelledError:
        cancelled = True
        raise
    finally:
        # A cancel is not held up by a server that does not answer the close frame.
        in_haste = cancelled and member.line.connected
        member.leave()
        reader.leave()
        if not in_haste and not member.line.shared:
            await asyncio.wait({member.line.task})
        if wish.transport is not None and hub.is_own(wish):
            await wish.transport.close()


def _raise_error(member: Member, message: Item) -> None:
    if isinstance(message, dict) and message["type"] == "error":
        request = member.event(message).request
        raise request_failed(GraphQLResponse(request=request, json={"errors": errors_of(message)}))


STREAMS: ContextVar[frozenset[int]] = ContextVar("graphql_prod_streams", default=frozenset())
"""The streams that have handed something over to this task, or to the one that began it."""

_numbers = itertools.count()


class StreamReader:
    """Who reads a stream."""

    __slots__ = ("_hub", "_lost", "_number", "_task", "loop", "member")

    def __init__(self, hub: Hub, member: Member) -> None:
        self._hub = hub
        self.member = member
        self._number = next(_numbers)
        self._lost = False
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        hub.enter(self)

    def hands_over(self) -> None:
        """Something goes to the task that runs now: what it does next is the reader's own doing."""
        self._task = asyncio.current_task()
        here = STREAMS.get()
        if self._number not in here:
            STREAMS.set(here | {self._number})

    def leave(self) -> None:
        """The end."""
        here = STREAMS.get()
        if self._number in here:
            STREAMS.set(here - {self._number})
        self._hub.leave(self)

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order; the loop over it may go on with what it has."""
        return self.member.established and not self._lost

    def drain(self) -> None:
        """Take nothing new; what waits can still be read."""
        self.member.leave()
        if self._task is not None:
            self._task.add_done_callback(self._left_alone)

    def _left_alone(self, _: object) -> None:
        """The task that read is over, and the generator is only kept, by a traceback perhaps."""
        if not self.member.mailbox.awaited:
            self.cut()

    def cut(self) -> None:
        """What waits is thrown away; whoever asks for more hears of it."""
        member, mailbox = self.member, self.member.mailbox
        member.leave()
        if mailbox.events:
            self._lost = True
            mailbox.discard()
            mailbox.error = mailbox.error or cut_off(member.line.host)
        self._hub.leave(self)

    def is_caller(self) -> bool:
        """Whether who asks was called by who reads: it cannot be waited for."""
        return self._number in STREAMS.get()
