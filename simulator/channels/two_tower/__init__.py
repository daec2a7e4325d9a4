"""A trained two-tower model as a matching channel of the platform."""
