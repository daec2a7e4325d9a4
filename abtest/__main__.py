"""``python -m abtest`` is the command ``micrec``."""

from abtest.cli import main

main()
