"""Signs where the output is not UTF-8."""

from __future__ import annotations

import io
import os
import sys

import pytest

from adapters.terminal.ascii_marks import MARKS, use_marks


def test_an_output_that_is_not_utf8_has_plain_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    use_marks()
    print("".join(MARKS), "é", flush=True)  # noqa: T201  # to the stream in question
    assert written.getvalue() == f"{''.join(MARKS.values())} ?{os.linesep}".encode()
    assert all(len(sign) == len(plain) == 1 for sign, plain in MARKS.items())
