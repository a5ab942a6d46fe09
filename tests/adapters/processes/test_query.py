"""Questions to programs: an answer as text, within a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from adapters.processes.query import query
from tests.slow import few

pytestmark = pytest.mark.anyio


def program(text: str) -> list[str]:
    return [sys.executable, "-S", "-c", text]


async def test_a_program_answers_with_its_code_and_both_outputs(tmp_path: Path):
    text = "import os, sys; print(os.getcwd(), os.environ['ONE']); print('no', file=sys.stderr); sys.exit(3)"
    answer = await query(program(text), cwd=tmp_path, env={"ONE": "1"})
    assert answer == (3, f"{tmp_path} 1\n", "no\n")


async def test_an_answer_that_fills_both_pipes_comes_whole():
    text = "import sys\nfor _ in range(40): sys.stderr.write('e' * 10000); sys.stdout.write('o' * 10000)"
    answer = await query(program(text))
    assert (len(answer.output), len(answer.errors)) == (400_000, 400_000)


async def test_of_an_answer_that_is_too_long_the_end_is_kept():
    text = "import sys\nfor name in 'out', 'err': getattr(sys, f'std{name}').write('x' * 300_000 + name)"
    answer = await query(program(text), most=1000)
    assert (answer.output, answer.errors) == ("x" * 997 + "out", "x" * 997 + "err")


@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_a_program_that_does_not_answer_is_killed_with_all_that_it_started(tmp_path: Path):
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    with pytest.raises(TimeoutError, match=r"has not answered within 0.5 s"):
        await query(program(text), timeout=0.5)
    pid = int((tmp_path / "pid").read_text())
    with anyio.fail_after(5):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await anyio.sleep(0.02)


@pytest.mark.parametrize("anyio_backend", few(["asyncio", "trio"], "asyncio"))
async def test_a_cancelled_question_leaves_no_process():
    before = {one.pid for one in psutil.Process(os.getpid()).children(recursive=True)}
    with anyio.move_on_after(0.3):
        await query(program("import time; time.sleep(60)"))
    after = psutil.Process(os.getpid()).children(recursive=True)
    assert [one for one in after if one.pid not in before and one.status() != psutil.STATUS_ZOMBIE] == []


async def test_a_program_that_is_not_there_is_an_error():
    with pytest.raises(FileNotFoundError):
        await query(["no-such-program"])
