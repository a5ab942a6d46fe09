"""The HTML of a console block: what is copied, and what is shown as a command or as output."""

from __future__ import annotations

import re
from html import unescape

from tests.docs.console import fence

BLOCK = """\
$ cat > a.txt << END
> <one & "two">
> END
$ grep -c '^#' metrics.txt
# HELP waits Calls that wait.
5 % done
"""


def html(title: str = "") -> str:
    return fence(BLOCK.rstrip("\n"), "console", "highlight", {"title": title}, None, classes=[], attrs={})


def test_the_commands_are_copied_without_prompts_and_output():
    [copied] = re.findall(r'data-copy="([^"]*)"', html())
    assert unescape(copied) == "cat > a.txt << END\n<one & \"two\">\nEND\ngrep -c '^#' metrics.txt"


def test_the_block_is_shown_as_its_page_has_it():
    shown = html().partition("<code>")[2]
    assert unescape(re.sub(r"<[^>]+>", "", shown)) == BLOCK


def test_output_that_looks_like_a_prompt_is_shown_as_output():
    [output] = re.findall(r'<span class="go">([^<]*)</span>', html())
    assert output == "# HELP waits Calls that wait.\n5 % done\n"


def test_the_title_is_above_the_block():
    assert '><span class="filename">in a &lt;second&gt; terminal</span><pre>' in html("in a <second> terminal")
    assert "filename" not in html()
