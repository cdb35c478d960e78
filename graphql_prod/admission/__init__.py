"""Upstreams that are ill: which calls are still sent, and which are not."""
