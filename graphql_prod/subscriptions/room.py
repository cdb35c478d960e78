"""How many sockets a caller's session has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.context import SubscribeRequest


def room_of_a_callers(clients: Any, subscribe_request: SubscribeRequest | Connector) -> int | None:
    """How many sockets a caller's session has room for beside calls; None where that is no question.

    :param clients: the session that the client was given; None where it has its own.
    """
    given = subscribe_request.session or clients
    connector = getattr(given, "connector", None)
    if given is None or subscribe_request.transport is not None or connector is None:
        return None
    limits = [limit for limit in (connector.limit, connector.limit_per_host) if limit]  # 0: none
    return min(limits) - 1 if limits else None
