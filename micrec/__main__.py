"""``python -m micrec`` is the command ``micrec``."""

import importlib

importlib.import_module("abtest.cli.entry").main()  # the command of all three packages; nothing here depends on them
