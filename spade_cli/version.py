"""The version, in a file of its own: any file may import it, and it imports nothing."""

__version__ = "0.1.0"
