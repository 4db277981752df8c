"""Finished runs and networks looked at again: channels, two traces side by side, a network examined."""
