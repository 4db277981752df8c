"""Examples in docstrings, lines that begin with >>>, as code on the site; Markdown takes them for quotations."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"(?:^>>> .*\n(?:(?!>>> |\n).*\n)*)+", re.MULTILINE)


def fence_examples(text: str) -> str:
    """Put each run of examples into a fence.

    >>> fence_examples(">>> 1 + 1\\n2")
    '```python\\n>>> 1 + 1\\n2\\n```\\n'
    """
    return EXAMPLE.sub(lambda match: f"```python\n{match[0].rstrip()}\n```\n", f"{text}\n")


class FenceExamples(Extension):
    """What mkdocstrings calls for every object that it reads."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring that will be shown."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = fence_examples(obj.docstring.value)
