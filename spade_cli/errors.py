"""How a command fails: by a mistake that the user can correct (exit code 2), or by anything else (exit code 1)."""

import errno

# A file cannot be written: every other one would fail in the same way.
NO_ROOM = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    errno.EROFS: "make it writable",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
}


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


def advise_on_room(error: BaseException) -> str | None:
    """What to do where a disk does not take a file, for whatever reason; None for any other error.

    >>> advise_on_room(OSError(errno.ENOSPC, "No space left on device")), advise_on_room(OSError("odd"))
    ('free some space', None)
    """
    for one in (error, error.__cause__):
        if isinstance(one, OSError) and one.errno in NO_ROOM:
            return NO_ROOM[one.errno]
    return None


def error_line(error: BaseException | str, longest: int | None = 200) -> str:
    """An error's message in one line, cut after `longest` characters; the error's type where there is no message."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
