"""How a command fails: by a mistake that the user can correct (exit code 2), or by anything else (exit code 1)."""


class SpadeError(Exception):
    """A failure that another command line would not avoid: one line for the user, exit code 1."""

    exit_code = 1


class ImagesFailedError(SpadeError):
    """Some of many images failed; the others have their results."""


class StoreError(SpadeError):
    """The store of the results does not answer: every other image would fail in the same way."""


class UserError(SpadeError):
    """The user's mistake: one line that says what was asked, what was found, and what to do; exit code 2."""

    exit_code = 2


def error_line(error: BaseException | str, longest: int | None = 200) -> str:
    """An error's message in one line, cut after `longest` characters; the error's type where there is no message."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
