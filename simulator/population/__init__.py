"""The users of the online simulator: when they come, what they do with a slate, whether they come back."""
