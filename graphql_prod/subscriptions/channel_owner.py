"""What a channel has to know of the manager of them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from graphql_prod.runtime.logs import FloodGate
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.refusals import Refusals
    from graphql_prod.subscriptions.subscriber import Subscriber


class ChannelOwner(Protocol):
    """What a channel has to know of the manager of them all."""

    policy: SubscriptionPolicy
    refusals: Refusals
    draining: bool
    floods: FloodGate
    events: int
    reconnects: int
    dropped: int

    def forget(self, channel: Any) -> None:
        """Let nobody join a channel any more."""

    def ended(self, channel: Any) -> None:
        """A channel has ended, its socket with it."""

    def reidentify(self, channel: Any, identity: object) -> None:
        """A shared channel goes on with other credentials."""

    def relocate(self, subscriber: Subscriber, before: Any) -> None:
        """Give a subscriber that has other credentials now a channel where they fit."""

    def move(self, subscriber: Subscriber, channel: Any) -> bool:
        """Put a subscription on a channel with newer credentials."""

    def is_superseded(self, channel: Any) -> bool:
        """Whether another channel takes those that come."""

    def renewed_in_vain(self, channel: Any) -> None:
        """Credentials were renewed, and refused to a subscription all the same."""

    def is_in_vain(self, connector: Any) -> bool:
        """Whether a renewal has just not helped."""

    def report_renewal(self, channel: Any, evidence: str) -> None:
        """Log why new credentials are asked for."""
