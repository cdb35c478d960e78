"""Protections: each has its settings, a pure decision and an executor."""
