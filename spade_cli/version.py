"""The version, alone in a file: everything may say it, and nothing comes back to the package for it."""

__version__ = "0.1.0"
