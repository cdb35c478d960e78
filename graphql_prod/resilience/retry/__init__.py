"""Retries: settings, decision, waits and budget."""
