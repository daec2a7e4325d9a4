"""``python -m abtest`` is the command ``micrec``."""

from abtest.cli.main import main

main()
