"""The fixtures of the matrix; all there is to them is in stage.py."""

from stage import authority, cell, process, proxies, server, via

__all__ = ["authority", "cell", "process", "proxies", "server", "via"]
