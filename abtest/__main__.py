"""``python -m abtest`` is the command ``micrec``."""

from abtest.cli.entry import main

main()
