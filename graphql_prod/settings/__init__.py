"""What all groups of settings share, and the sources that they are read from."""
