"""HTTP sessions, connections and WebSocket upgrades: ours, and those of a caller."""
