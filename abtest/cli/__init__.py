"""The one console command, ``micrec``, composed of the commands of the three packages."""

from abtest.cli.main import app, main

__all__ = ["app", "main"]
