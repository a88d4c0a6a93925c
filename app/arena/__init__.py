"""The arena: one prompt to two models or settings side by side, votes, and the ranking made from them."""
