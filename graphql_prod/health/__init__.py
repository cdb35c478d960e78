"""Whether a client is alive, and whether its server answers."""
