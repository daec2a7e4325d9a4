"""The version, apart from the package's own module, which imports everything that the package offers."""

__version__ = "0.1.0"
