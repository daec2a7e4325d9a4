"""The one console command, ``micrec``, composed of the commands of the three packages."""

from abtest.cli.entry import main

__all__ = ["main"]
