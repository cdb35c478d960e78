"""Subscriptions that outlive their sockets.

A call of ``subscribe()`` or ``stream()`` is a :class:`~.member.Member` of a :class:`~.line.Line`: the line
opens sockets, one after another, and reads them; a member keeps what came for it until its reader takes it.
What a lost connection means is decided in ``verdict``, without I/O.
"""
