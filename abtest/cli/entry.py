"""Entry point of the console script: the command line, or one line that names the package it lacks."""

import sys

from micrec.packages import missing_package


def main() -> None:
    """Run the command line; exit code 2 where a package that the command needs is not installed."""
    try:
        from abtest.cli.main import main as run_command

        run_command()
    except ModuleNotFoundError as fault:
        line = missing_package(fault)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
