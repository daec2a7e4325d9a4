"""Experiments, their statistics and their reports; the composed command line."""
