"""The words of the project: no private words in names, few riddles in prose."""

from __future__ import annotations

import keyword
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

PRIVATE_WORDS = re.compile(
    r"\b(anybody|awaited|breath|carr(?:y|ied|ies) on|chance|charged|colours?|complain(?:ts?)?|crowded|ears|facts?"
    r"|heard|hears?|held back|intake|ledger|let in|linger|losses|nobody|patience|refills|remains|rubbish|seats?"
    r"|set aside|somebody|spent|standin|tid(?:y|ied)|troubled|turnstile|vain|victims?|whatever|whoever|zygote)\b"
)
"""Words that names do not contain, for the field has better ones: see "Words" in docs/explanation/design.md."""
PLAIN_ENGLISH = frozenset(
    {
        "LOSSES",  # of power
        "SO_LINGER",  # a socket option
        "Standin",  # for a server of ComfyUI
        "StandinServer",
        "standin",
        "test_standin",
        "test_a_port_is_free_though_connections_of_a_former_server_linger",
        "test_a_script_can_be_awaited",
        "test_d2_a_receipt_can_be_awaited",
    }
)
"""Names in which such a word has its everyday meaning."""

RIDDLES = re.compile(
    r"\b(who|whom|whose|whoever|whatever|nobody|somebody|anybody|anew)\b|\bat the most\b|\bso many\b", re.IGNORECASE
)
"""Words that hide the subject of a sentence."""
MAX_RIDDLES_PER_1000_LINES = 5


def test_names_contain_no_private_words():
    found = sorted(f"{path.relative_to(ROOT)}: {name}" for path in code() for name in private_names(path))
    assert not found, "\n".join(found)


def test_prose_contains_few_riddles():
    lines, counts = 0, {}
    for path in prose():
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        counts[f"{path.relative_to(ROOT)}"] = len(RIDDLES.findall(text))
    worst = sorted(counts.items(), key=lambda one: -one[1])[:10]
    assert sum(counts.values()) * 1000 / lines <= MAX_RIDDLES_PER_1000_LINES, worst


def code() -> Iterator[Path]:
    for folder in ("events", "recovery", "adapters", "bench", "tests"):
        yield from (ROOT / folder).rglob("*.py")


def prose() -> Iterator[Path]:
    for folder in ("events", "recovery", "adapters"):
        yield from (ROOT / folder).rglob("*.py")
    yield ROOT / "README.md"
    yield from (ROOT / "docs").rglob("*.md")


def private_names(path: Path) -> set[str]:
    """The names in a module that contain a private word; the module's own name is one of them."""
    found = is_private(re.findall(r"[^\W\d]\w*", path.read_text(encoding="utf-8"))) | is_private([path.stem])
    if found:  # prose counts for nothing, but takes a hundred times as long to tell from names
        with path.open("rb") as file:
            tokens = {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}
        found &= tokens | {path.stem}
    return found


def is_private(names: Iterable[str]) -> set[str]:
    """Those of *names* that contain a private word."""
    names = {name for name in names if not keyword.iskeyword(name)} - PLAIN_ENGLISH
    return {name for name in names if PRIVATE_WORDS.search(" ".join(words(name)))}


def words(name: str) -> list[str]:
    """The words of a name, in lower case: ``MAX_TroubledCalls`` has three."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
