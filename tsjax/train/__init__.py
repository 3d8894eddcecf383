"""The pure step, its state, and its compilation."""
