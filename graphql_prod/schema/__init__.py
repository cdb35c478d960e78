"""Which documents fit the server's schema: where it comes from, for how long, and what is remembered."""
