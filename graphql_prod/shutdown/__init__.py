"""The end of a client: its settings, its stages, its report, and who asks for it."""
