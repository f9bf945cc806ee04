"""The version, for the package, its build and its requests."""

__version__ = "0.1.0"
