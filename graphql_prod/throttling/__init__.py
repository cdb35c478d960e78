"""Upstreams that say "slow down": what they say, how long to wait, and whom to hold back."""
