"""The web app: pages over one engine, which it knows by `model.interface` only."""
