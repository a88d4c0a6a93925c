"""Load against a running server: overload, aborted and killed clients, malformed bodies. See `__main__`."""
