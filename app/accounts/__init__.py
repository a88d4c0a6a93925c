"""Who may log in: a file of names and hashed passwords."""

from app.accounts.file import Accounts, AccountsError, set_password

__all__ = ["Accounts", "AccountsError", "set_password"]
