"""Readers that turn public click logs into dataset folders."""
