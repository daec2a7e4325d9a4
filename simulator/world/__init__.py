"""Generators of users, items, sessions and planted links."""
