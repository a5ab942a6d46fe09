"""Write the table of docs/reference/causes.md from the sentences about failures.

python -m tests.docs.causes_page
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from recovery.policies import causes_of_rules as rules
from recovery.policies.classification import BY_STATUS
from recovery.policies.libraries import BY_CODE
from recovery.policies.local_sentences import LOCAL_SENTENCES
from recovery.policies.network_sentences import NETWORK_SENTENCES
from recovery.policies.prompt_sentences import PROMPT_SENTENCES
from recovery.policies.sentence import DETAILS, Sentence
from recovery.policies.sentences import NEXT
from recovery.policies.tool_sentences import TOOL_SENTENCES

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "causes.md"
BEGIN = "<!-- `python -m tests.docs.causes_page` writes what follows from recovery/policies/*_sentences.py -->\n"
SECTIONS = {
    "Networks and servers": NETWORK_SENTENCES,
    "This machine and its programs": LOCAL_SENTENCES,
    "git, pip, uv, downloads and launches": TOOL_SENTENCES,
    "Prompts of ComfyUI": PROMPT_SENTENCES,
}


def tables() -> str:
    """The sections of the page that are made from the code."""
    names = "".join(f"| `{{{name}}}` | {meaning} |\n" for name, meaning in DETAILS.items())
    steps = "".join(f"| `{key}` | {plain(text)} |\n" for key, text in NEXT.items() if key)
    found = rules_by_cause()
    return (
        f"\n## Details\n\n| name | what it is |\n|---|---|\n{names}"
        f"\n## Where the call stands\n\n| key | text |\n|---|---|\n{steps}"
        + "".join(f"\n## {title}\n\n{_table(sentences, found)}" for title, sentences in SECTIONS.items())
    )


def rules_by_cause() -> dict[str, list[str]]:
    """What leads to each cause: rules, and classes of exceptions."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    numbered = [("status ", rules.BY_STATUS), ("errno ", rules.BY_ERRNO), ("exit code ", rules.BY_EXIT_CODE)]
    for prefix, table in [*numbered, ("", rules.BY_RULE), ("", rules.BY_CLASS_NAME)]:
        for name, cause in table.items():
            found[cause].append(f"{prefix}{name}")
    for status in BY_STATUS.keys() - rules.BY_STATUS.keys():
        found["busy-server"].append(f"status {status}")
    for number, name in rules.SIGNALS.items():
        cause = "stopped" if number in rules.STOPS else "crashed" if number in rules.CRASHES else "killed"
        found[cause].append(name)
    for code, category in BY_CODE.items():
        found["unreadable" if code == "cut-off" else str(category)].append(f"code {code}")
    return {cause: sorted(set(names)) for cause, names in found.items()}


def _table(sentences: Mapping[str, Sentence], found: Mapping[str, list[str]]) -> str:
    rows = [
        f"| `{cause}` | {plain(sentence)} | {plain(step)} | {plain(itself)} | {', '.join(found.get(cause, ()))} |\n"
        for cause, (sentence, step, itself) in sentences.items()
    ]
    return f"| cause | sentence | what to do | by itself | rules |\n|---|---|---|---|---|\n{''.join(rows)}"


def plain(text: str) -> str:
    """*text* with brackets that do not begin a link."""
    return text.replace("[", "\\[").replace("]", "\\]")


if __name__ == "__main__":
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + tables(), encoding="utf-8")
