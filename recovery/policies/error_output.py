"""The line of a process's error output that says what went wrong, in the tool's own words. Pure."""

from __future__ import annotations

from recovery.policies.error_messages import PROCESSES, compiled

PATTERNS = {one.name: one.pattern for one in PROCESSES}

TERMINAL = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)?|[@-Z\\^_])"
"""What a terminal acts on and does not show: colours, moves of the cursor, titles (ECMA-48)."""

VERDICT = (
    r"\W*(?:fatal|error|curl|abort)\b[^:\n]{0,20}:|\W*cause: Because "
    r"|[A-Za-z_][\w.]{0,100}(?:Error|Exception|Interrupt|Exit)(?::|$)"
)
"""How a line begins that says why the tool failed: git's ``fatal:``, pip's ``ERROR:``, uv's ``cause: Because``,
an exception.
"""

FRAME = r"\s*File \".{0,400}\", line [0-9]+|Traceback \(most recent call last\)|\s*\+ Exception Group Trace"

BAR = (
    r"[\W\d_]*$|.{0,200}[0-9]{1,3}(?:\.[0-9]+)?% ?(?:\||\(|\[|of )|.{0,200}[\u2501\u2578\u257a\u2588#=-]{8}"
    r"|.{0,100}[0-9.]+ ?[kMG]i?B/s"
)
"""How a line begins that is a bar, or a share of something: pip, uv, git, curl, tqdm."""

NOISE = (
    f"{BAR}"
    # Advice, and what says nothing about this failure.
    r"|\W{0,4}(?:hint|note|help|notice|tip)\b|(?:deprecation|warning|info|debug)\b.{0,20}:|\[notice\]"
    r"|for more information|see above for|please make sure you have|and the repository exists|aborting$|exiting$"
    r"|\[ended by the launcher\b"  # what the launcher itself wrote below it
    r"|During handling of the above|The above exception was|you should consider upgrading|full output:|end of output"
)


def as_shown(text: str) -> str:
    """*text* as a terminal shows it: without colours; of a line that was written over, the last state."""
    if "\x1b" in text:
        text = compiled(TERMINAL).sub("", text)
    if "\r" in text:
        lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
        text = "\n".join(lines)
    return text


def without_bars(text: str) -> str:
    """*text* without the lines that only show how far something is."""
    return "\n".join(line for line in text.split("\n") if not compiled(BAR).match(line.lstrip()))


def telling_line(text: str | None, rule: str = "") -> str:
    """The line of *text*, the error output of a process, that says why it failed; "" if no line does.

    That is the last line that reads like a verdict (``fatal: ...``, ``ERROR: ...``, ``XError: ...``), preferably one by
    which *rule*, the rule of classification, has recognized the failure. Where no line does, it is the last one that is
    no progress bar, frame of a traceback, warning or advice. A line that ends with a colon is given with the next.
    """
    if not text:
        return ""
    lines = [line.rstrip() for line in as_shown(text).split("\n") if line.strip()]
    useful: list[int] = []
    verdicts: list[int] = []
    in_frames = False
    for number, line in enumerate(lines):
        if compiled(FRAME).match(line):
            in_frames = True
            continue
        if in_frames and line[:1].isspace():
            continue
        if in_frames and not compiled(NOISE).match(line):
            verdicts.append(number)  # the exception, of whatever name
        in_frames = False
        if compiled(VERDICT).match(line.lstrip()):
            verdicts.append(number)
        elif not compiled(NOISE).match(line.lstrip()):
            useful.append(number)
    if rule in PATTERNS:
        pattern = compiled(PATTERNS[rule])
        every = range(len(lines))
        for numbers in (verdicts, useful, every):
            if matching := [number for number in numbers if pattern.search(lines[number])]:
                return _with_next(lines, matching[-1])
    chosen = verdicts or useful
    return _with_next(lines, chosen[-1]) if chosen else ""


def _with_next(lines: list[str], number: int) -> str:
    line = lines[number].strip()
    is_announcement = line.endswith(":") and number + 1 < len(lines)
    return f"{line} {lines[number + 1].strip()}" if is_announcement else line
