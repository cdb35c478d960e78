"""Subscriptions that outlive their connections.

A call of ``subscribe()`` or ``stream()`` is a :class:`~.subscriber.Subscriber` of a
:class:`~.channel.Channel`. The channel opens one :class:`~.connection.Connection` after another. A subscriber
keeps what came for it in an event queue, until its reader takes it.
"""
