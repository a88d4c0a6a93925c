"""The Leaderboard page: measured scores with their intervals, and published figures beside them."""
