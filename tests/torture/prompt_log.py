"""What servers and launchers noted of a queue of prompts, in one file and one order, and what is wrong with it. Pure.

A line is ``begin ID PID`` and ``end ID PID STATUS`` of a run (by the server), ``result NAME ID JSON`` of a prompt that
a launcher got back, with the files that it has and those of them that do not answer, ``quarantined NAME WORDS``,
``asked QUESTION`` for a question that nobody expects, and ``dead PID`` of a server that was seen to be gone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import msgspec

SUCCESS = "success"


class PromptRun(msgspec.Struct):
    """A run of a prompt in the server *pid*; *ended* is the line of its end, *died* that of the death of its server."""

    prompt: str
    pid: int
    began: int
    status: str = ""
    ended: int | None = None
    died: int | None = None

    def is_over(self, line: int) -> bool:
        """Whether nothing of it is alive at that line."""
        return any(over is not None and over < line for over in (self.ended, self.died))


class Files(msgspec.Struct, frozen=True):
    """What a result has: its *files*, and those of them that did *not answer* as it came."""

    files: list[str]
    missing: list[str] = []


class PromptLog(msgspec.Struct):
    """The lines, read. The last line of a killed process may be torn; it is left out."""

    runs: list[PromptRun] = []
    results: list[tuple[int, str, str, Files]] = []
    quarantined: dict[str, str] = {}
    asked: list[str] = []
    deaths: int = 0

    @classmethod
    def read(cls, text: str) -> PromptLog:
        log = cls()
        for number, line in enumerate(text.split("\n")[:-1]):
            match line.split(" ", 3):
                case ["begin", prompt, pid]:
                    log.runs.append(PromptRun(prompt, int(pid), number))
                case ["end", prompt, pid, status]:
                    last = [run for run in log.runs if (run.prompt, run.pid) == (prompt, int(pid))][-1]
                    last.ended, last.status = number, status
                case ["dead", pid]:
                    log.deaths += 1
                    for run in log.runs:
                        run.died = number if run.pid == int(pid) else run.died
                case ["result", name, prompt, files]:
                    log.results.append((number, name, prompt, msgspec.json.decode(files, type=Files)))
                case ["quarantined", name, *words]:
                    log.quarantined[name] = " ".join(words)
                case ["asked", *question]:
                    log.asked.append(" ".join(question))
        return log

    @property
    def running(self) -> PromptRun | None:
        """What runs now, as far as the lines tell."""
        last = self.runs[-1] if self.runs else None
        return last if last and last.ended is None and last.died is None else None

    @property
    def reposts(self) -> int:
        """How many runs were not the first one of their prompt."""
        return len(self.runs) - len({run.prompt for run in self.runs})

    def hit(self) -> Counter[str]:
        """How many deaths may count against each prompt: it ran, or a launcher could not know yet that it had ended."""
        found = Counter[str]()
        for run, following in zip(self.runs, [*self.runs, None][1:], strict=True):
            if run.died is not None and (following is None or following.pid != run.pid):
                found[run.prompt] += 1
                found.update(self._just_before(run))
        return found

    def may_be_killed(self) -> bool:
        """Whether a death of the server now hits no prompt for the second time."""
        hit = self.hit()
        return self.running is not None and not any(
            hit[prompt] for prompt in [self.running.prompt, *self._just_before(self.running)]
        )

    def _just_before(self, run: PromptRun) -> list[str]:
        before = [one for one in self.runs if one.pid == run.pid and one.began < run.began]
        return [one.prompt for one in before[-1:] if one.prompt != run.prompt]

    def problems(self, names: Collection[str], killer: str) -> list[str]:
        """What is wrong with the lines of a queue that is done: of *names* each has one result, but the *killer*."""
        return [*self._wrong_runs(), *self._wrong_results(names, killer), *self._wrong_end(names, killer)]

    def _wrong_runs(self) -> Iterator[str]:
        known: dict[str, list[PromptRun]] = defaultdict(list)
        for number, run in enumerate(self.runs):
            for other in self.runs[:number]:
                if not other.is_over(run.began):
                    twice = "a second time" if other.prompt == run.prompt else "in a second server"
                    yield f"{run.prompt} began {twice} while {other.prompt} ran in {other.pid}"
            for earlier in known[run.prompt]:
                if earlier.status == SUCCESS and (earlier.died is None or earlier.died > run.began):
                    yield f"{run.prompt} ran again, though it had succeeded in {earlier.pid}, which lived"
            known[run.prompt].append(run)
            if any(prompt == run.prompt and line < run.began for line, _, prompt, _ in self.results):
                yield f"{run.prompt} ran again after its result"

    def _wrong_results(self, names: Collection[str], killer: str) -> Iterator[str]:
        first: dict[str, tuple[str, Files]] = {}
        for line, name, prompt, files in self.results:
            if first.setdefault(name, (prompt, files)) != (prompt, files):
                yield f"{name} has two results: {first[name]} and {(prompt, files)}"
            if not any(run.prompt == prompt and run.began < line and run.status in ("", SUCCESS) for run in self.runs):
                yield f"{name} was reported as done, and {prompt} never ran"
            if files.missing or len(files.files) != 1:
                yield f"{name} was reported as done with {files.files}, of which {files.missing} do not answer"
        owners = Counter(prompt for prompt, _ in first.values())
        yield from (f"{prompt} is the result of {count} prompts" for prompt, count in owners.items() if count > 1)
        yield from (f"{name} has no result" for name in names if name not in first and name != killer)
        if killer in first:
            yield f"{killer} was reported as done"

    def _wrong_end(self, names: Collection[str], killer: str) -> Iterator[str]:
        yield from (f"nobody expects the question {question}" for question in self.asked)
        yield from (f"{name} was set aside: {words}" for name, words in self.quarantined.items() if name != killer)
        if killer in names and not ("server" in (words := self.quarantined.get(killer, "")) and len(words.split()) > 5):
            yield f"{killer} was not set aside with a reason: {words!r}"
