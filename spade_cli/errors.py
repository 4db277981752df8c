"""The two ways a command ends badly: the user can put it right (exit 2), or something failed (exit 1)."""


class SpadeError(Exception):
    """Something failed that no change of the command line would mend; one line for the user, exit code 1."""

    exit_code = 1


class ImagesFailedError(SpadeError):
    """Some of many images failed; the results of the others are there."""


class UserError(SpadeError):
    """The user's mistake: one line that says what was asked, what was found and what to do; exit code 2."""

    exit_code = 2


def error_line(error: Exception) -> str:
    """The start of an error's message, without its line breaks."""
    return " ".join(str(error).split())[:200] or type(error).__name__
