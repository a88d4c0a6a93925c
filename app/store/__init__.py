"""Where the app keeps what outlives it: one SQLite file, in which every feature has its own tables."""

from app.store.database import Database, StoreError
from app.store.place import default_data_folder

__all__ = ["Database", "StoreError", "default_data_folder"]
