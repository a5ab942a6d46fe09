"""Signs for an output that is not UTF-8: one plain character for each, so that columns keep their places."""

from __future__ import annotations

import codecs
import io
import sys

MARKS = {"·": ".", "▶": ">", "…": "~", "‖": "=", "✓": "+", "✗": "x", "━": "-", "╸": "-", "╺": "-", "—": "-"}
"""The signs of tables, of progress bars and of texts that were cut."""
HANDLER = "recovery.marks"


def use_marks() -> None:
    """Let the standard output and error write ``MARKS`` for signs, and "?" for letters, that their encoding lacks."""
    codecs.register_error(HANDLER, marked)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def marked(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of the text that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(MARKS.get(sign, "?") for sign in lacking), error.end
