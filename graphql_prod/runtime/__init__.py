"""What the interpreter and the process do: forks, the garbage collector, contexts."""
