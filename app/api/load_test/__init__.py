"""Load against a server: overload, aborted and killed clients, malformed bodies, SIGTERM. See `__main__`."""
