"""The end of a client: its settings, its sequence, its report, and who asks for it."""
