"""Texts for people: quoted safely, and without secrets."""
