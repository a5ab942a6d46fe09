"""What a process prints, as lines that a log may hold: as a terminal shows them, redacted, of bounded length. Pure."""

from __future__ import annotations

from recovery.literals import MASK
from recovery.policies.error_output import as_shown
from recovery.redact import excerpt, redact

MOST_OF_A_LINE = 65_536
"""Bytes of a line that are read; of a longer one, the beginning is kept."""

MOST_OF_A_KEY = 200
"""Lines of a private key, which are masked, that may follow its first line."""


class Lines:
    """Turns the bytes that a process prints into lines.

    Of a line that was written over with carriage returns, as progress bars are, the last state is kept. Colours and
    moves of the cursor are left out. Secrets are redacted in each line, and private keys across lines.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._key_lines_left = 0
        self._skips = False
        self.unfinished = 0
        """Bytes that were fed since the end of the last whole line."""

    def feed(self, data: bytes) -> list[str]:
        """The lines that *data* completes."""
        *whole, rest = (self._rest + data).split(b"\n")
        self.unfinished = self.unfinished + len(data) if not whole else len(data) - data.rfind(b"\n") - 1
        ending = b"\r" if rest.endswith(b"\r") else b""  # the first half of a Windows line end, perhaps
        self._rest = _last_state(rest) + ending
        if whole and self._skips:
            self._skips = False
            del whole[0]
        return [self._clean(line) for line in whole]

    def finish(self) -> list[str]:
        """The last line, if the output does not end with the end of a line."""
        return self.feed(b"\n") if self._rest else []

    def skip(self) -> None:
        """Note that bytes are left out here: what comes before the next line end is no whole line."""
        self._rest, self.unfinished, self._skips = b"", 0, True

    def _clean(self, line: bytes) -> str:
        text = as_shown(_last_state(line).decode("utf-8", "replace"))
        if not text.isprintable():
            text = redact(text)  # what no terminal shows may split a secret, or join two words
            text = "".join(one if one.isprintable() or one == "\t" else " " for one in text).rstrip()
        if self._key_lines_left:
            self._key_lines_left = 0 if "-----END" in text else self._key_lines_left - 1
            return MASK
        if "-----BEGIN" in text and "PRIVATE KEY" in text and "-----END" not in text:
            self._key_lines_left = MOST_OF_A_KEY
        return excerpt(text)


def _last_state(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2][:MOST_OF_A_LINE]
