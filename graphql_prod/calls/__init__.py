"""One call: its attempts, what became of each, and the answer."""
