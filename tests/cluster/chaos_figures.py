"""What records, notes of bodies and disturbances say together: what was lost, doubled or late. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import msgspec

from adapters.nats.heartbeat import BEATS
from adapters.nats.pulls import PULLED_FOR, PULLED_FOR_SHARE
from tests.cluster.chaos_watch import Seen
from tests.cluster.chaos_worker import CONCURRENCY
from tests.cluster.disturbances import Disturbance
from tests.cluster.sink import BEGIN, END, RESULT, UP, Note
from tests.torture.figures import Figure, percentile

ELECTION = 10.0
"""Seconds that servers may take to elect leaders after one of them died."""
MOMENT = 1.0
"""Seconds in which a call that is offered again is claimed and begun, on a busy machine."""
PUNCTUAL = 0.1
"""Seconds after its due time in which an attempt begins."""
PASSING = 0.5
"""Seconds in which what is on its way to a worker comes, and in which one that goes on lets alone what has come."""
EARLY = 0.3
"""Seconds before its due time at which a call is given to a worker."""
AFTERMATH = 5.0
"""Seconds after the servers are back in which a worker may still wait for what one of them has lost."""
UNTOLD = 1 - 1 / BEATS
"""The share of a lease that is left at least when a worker dies."""
SLOW = 0.02
"""Seconds that a thread wakes late on a machine that is too busy to tell who is late."""
LISTED = 5
"""Wrong things of one kind that are printed."""


class Submitted(msgspec.Struct):
    """What the program that submitted a call knows.

    Args:
        number: Of the call.
        call: Its id; "" while it is not submitted.
        affinity: The only node that may run it; "" for any.
        results: What each submission got: the number and the fence, or the text of an error.
    """

    number: int
    call: str = ""
    affinity: str = ""
    results: list[object] = []


class Body(msgspec.Struct):
    """One run of the body of a call.

    Args:
        note: Its begin.
        ended: When it ended, or its process died; None where it still runs.
    """

    note: Note
    ended: float | None = None


class Evidence(msgspec.Struct, frozen=True, dict=True):
    """All that is known of one run.

    Args:
        submitted: The calls.
        changes: The changes of their records, in the order of the stream.
        notes: What the sink heard, in its order.
        done: The disturbances.
        lease: Seconds.
        lags: How late a thread woke that slept for a moment: when, and how many seconds.
        slowdown: How many times longer all may take than on a machine that does nothing else.
    """

    submitted: list[Submitted]
    changes: list[Seen]
    notes: list[Note]
    done: list[Disturbance]
    lease: float
    lags: list[tuple[float, float]] = []
    slowdown: float = 1.0

    @property
    def election(self) -> float:
        """Seconds that servers may take to elect leaders after one of them died."""
        return ELECTION * self.slowdown

    @property
    def moment(self) -> float:
        """Seconds in which a call that is offered again is claimed and begun."""
        return MOMENT * self.slowdown

    @property
    def punctual(self) -> float:
        """Seconds after its due time in which an attempt begins."""
        return PUNCTUAL * self.slowdown

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each call."""
        return {one.call: one.number for one in self.submitted}

    @cached_property
    def by_call(self) -> dict[str, list[Seen]]:
        """The changes of each call."""
        found: dict[str, list[Seen]] = defaultdict(list)
        for change in self.changes:
            found[change.record.call].append(change)
        return found

    @cached_property
    def bodies(self) -> dict[int, list[Body]]:
        """The bodies of each call, in the order in which they began."""
        found: dict[int, list[Body]] = defaultdict(list)
        open_: dict[tuple[int, int, int, int], Body] = {}
        for note in self.notes:
            name = note.number, note.fence, note.attempt, note.pid
            if note.what == BEGIN and note.taken:  # otherwise the body ends at once
                found[note.number].append(body := Body(note))
                open_[name] = body
            elif note.what == END and name in open_:
                open_[name].ended = note.at
        for body in open_.values():
            if body.ended is None:
                kills = (d.began for d in self.of(body.note.node) if d.kind == "killed" and d.began >= body.note.at)
                body.ended = min(kills, default=None)
        return {number: sorted(several, key=lambda body: body.note.at) for number, several in found.items()}

    @cached_property
    def servers(self) -> list[Disturbance]:
        """The disturbances of servers."""
        return [one for one in self.done if one.name[0] == "n"]

    @cached_property
    def workers(self) -> list[Disturbance]:
        """The disturbances of workers."""
        return sorted((one for one in self.done if one.name[0] != "n"), key=lambda one: one.began)

    def of(self, node: str) -> list[Disturbance]:
        """The disturbances of one worker."""
        return [one for one in self.workers if one.name == node]

    def up_after(self, disturbance: Disturbance) -> float:
        """When the worker of *disturbance* took calls again."""
        if disturbance.kind == "stopped":
            return disturbance.ended
        ups = (n.at for n in self.notes if n.what == UP and n.node == disturbance.name and n.at >= disturbance.began)
        return next(ups, float("inf"))

    def is_up(self, node: str, since: float, until: float) -> bool:
        """Whether the worker was undisturbed all the time."""
        return not any(one.began <= until and self.up_after(one) >= since for one in self.of(node))

    def elected(self, since: float, until: float, aftermath: float = 0.0) -> float | None:
        """When the servers must have elected leaders after the last disturbance of it; None without one."""
        began = (one.began for one in self.servers if one.began <= until and one.settled + aftermath >= since)
        last = max(began, default=None)
        return None if last is None else max(last, since) + self.election

    def detours(self, first: float, last: float) -> float:
        """Seconds that a call loses which is offered between *first* and *last*, as workers keep it that do not run.

        Each one that is stopped while its request waits at the servers keeps it for a lease; a killed one, what is on
        its way to it.
        """
        lost = 0.0
        while any(one.began <= last + lost and self.asks_until(one) >= first + lost for one in self.workers):
            lost += self.lease
        return lost

    def asks_until(self, one: Disturbance) -> float:
        """Until when the worker may be given a call that it does not begin."""
        waits = min(one.ended - one.began, PULLED_FOR, self.lease * PULLED_FOR_SHARE)
        return one.began + (0.0 if one.kind == "killed" else waits) + PASSING

    def was_slow(self, since: float, until: float) -> bool:
        """Whether the machine itself had no processor for a thread at some time of it."""
        return any(lag > SLOW for at, lag in self.lags if since <= at <= until + 0.2)

    @cached_property
    def _holders(self) -> tuple[list[float], list[Counter[str]]]:
        """How many calls each node holds after each moment."""
        held: dict[str, str] = {}
        times: list[float] = []
        counts: list[Counter[str]] = []
        count: Counter[str] = Counter()
        for change in sorted(self.changes, key=lambda one: one.at):
            record, before = change.record, held.pop(change.record.call, None)
            if before is not None:
                count[before] -= 1
            if record.state == "running":
                held[record.call] = record.node
                count[record.node] += 1
            times.append(change.at)
            counts.append(count.copy())
        return times, counts

    def has_free_worker(self, at: float, until: float, affinity: str = "") -> bool:
        """Whether a worker that may run the call was undisturbed and had a free slot, all the time."""
        times, counts = self._holders
        during = counts[max(bisect_right(times, at) - 1, 0) : bisect_right(times, until)]
        nodes = [affinity] if affinity else sorted({note.node for note in self.notes if note.what == UP})
        return any(all(count[node] < CONCURRENCY for count in during) and self.is_up(node, at, until) for node in nodes)


def figures_of(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """The figures that *evidence* gives, and the wrong things in words."""
    found, wrong = [], []
    for figure, texts in (outcomes(evidence), fences(evidence), checkpoints(evidence)):
        found.append(figure)
        wrong += listed(figure.what, texts)
    for figures, texts in (successions(evidence), punctuality(evidence)):
        found += figures
        wrong += listed(figures[0].what, texts)
    return found, wrong


def listed(what: str, texts: Sequence[str]) -> list[str]:
    """The first of *texts*, each with *what* it is about."""
    more = [f"{what}: {len(texts) - LISTED} more"] if len(texts) > LISTED else []
    return [f"{what}: {text}" for text in texts[:LISTED]] + more


# one outcome


def outcomes(evidence: Evidence) -> tuple[Figure, list[str]]:
    """Whether each call has one recorded outcome, and those who submitted it got that."""
    wrong = [text for one in evidence.submitted for text in _outcome(evidence, one)]
    gaps = sum(
        change.before != before
        for several in evidence.by_call.values()
        for change, before in zip(several, [0, *(one.seq for one in several)], strict=False)
    )
    submissions = sum(len(one.results) for one in evidence.submitted)
    how_often = f"{len(evidence.submitted)} calls, {submissions} submissions, {len(evidence.changes)} changes"
    what = "calls without their one recorded outcome"
    return Figure(what, f"{how_often}, {gaps} not seen", f"{len(wrong)}", "0", not wrong), wrong


def _outcome(evidence: Evidence, one: Submitted) -> Iterator[str]:
    ends = [change for change in evidence.by_call.get(one.call, []) if change.record.is_over]
    if not ends:
        latest = evidence.by_call.get(one.call)
        yield f"{one.number} ({one.call}) has not ended: {latest[-1].record if latest else 'not seen'}; {one.results}"
        return
    after = [change for change in evidence.by_call[one.call] if change.seq > ends[0].seq]
    if after:
        yield f"{one.call} ended as {ends[0].record.state}, and is {after[-1].record.state} after that"
    record = ends[0].record
    if record.state != "succeeded":
        yield f"{one.call} ended as {record.state}: {record.reason} {record.error}"
    for result in one.results:
        if result != [one.number, record.fence]:
            yield f"{one.call} gave {result!r}, not [{one.number}, {record.fence}]"


# fences


def fences(evidence: Evidence) -> tuple[Figure, list[str]]:
    """Whether no two claims had one fence, no write of an older one was taken, and the newest one made the result."""
    wrong: list[str] = []
    holders: dict[tuple[int, int], set[int]] = defaultdict(set)
    highest: Counter[int] = Counter()
    refused = 0
    for note in evidence.notes:
        if note.what in (UP, END):
            continue
        holders[note.number, note.fence].add(note.pid)
        refused += not note.taken
        if note.taken is not (note.fence >= highest[note.number]):
            wrong.append(f"{note.number}: {note.what} under {note.fence} after {highest[note.number]}: {note.taken}")
        highest[note.number] = max(highest[note.number], note.fence)
    wrong += [
        f"{number}: {len(pids)} processes had the fence {f}" for (number, f), pids in holders.items() if len(pids) > 1
    ]
    for call, several in evidence.by_call.items():
        for earlier, later in pairwise(several):
            if later.record.fence < earlier.record.fence:
                wrong.append(f"{call}: the fence fell from {earlier.record.fence} to {later.record.fence}")
        number, record = evidence.numbers.get(call, -1), several[-1].record
        results = {n.fence for n in evidence.notes if n.number == number and n.what == RESULT and n.taken}
        if record.state == "succeeded" and (record.fence != highest[number] or record.fence not in results):
            wrong.append(f"{call}: its result is of {record.fence}, and {highest[number]} has written")
    over = overlaps(evidence)
    wrong += [
        f"{a.note.number}: two bodies at once under {a.note.fence}" for a, b in over if a.note.fence == b.note.fence
    ]
    how_often = f"{sum(map(len, evidence.bodies.values()))} bodies, {len(over)} overlapped"
    what = "writes of older fences taken, results of older fences"
    return Figure(what, how_often, f"{len(wrong)}, {refused} writes refused", "0", not wrong), wrong


def overlaps(evidence: Evidence) -> list[tuple[Body, Body]]:
    """Two bodies of one call at once: the later one began while the earlier one ran."""
    return [
        (earlier, later)
        for several in evidence.bodies.values()
        for at, earlier in enumerate(several)
        for later in several[at + 1 :]
        if earlier.ended is None or earlier.ended > later.note.at
    ]


def checkpoints(evidence: Evidence) -> tuple[Figure, list[str]]:
    """Whether no body began behind a step that none had made."""
    done: Counter[int] = Counter()
    wrong: list[str] = []
    continued = 0
    for note in evidence.notes:
        if note.what.isdigit() and note.taken:
            done[note.number] = max(done[note.number], int(note.what) + 1)
        elif note.what == BEGIN and note.first:
            continued += 1
            if note.first > done[note.number]:
                wrong.append(f"{note.number} went on with step {note.first}, and {done[note.number]} were made")
    what = "bodies that went on with what was not done"
    return Figure(what, f"{continued} went on from a checkpoint", f"{len(wrong)}", "0", not wrong), wrong


# take-overs


def successions(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """How long the calls of dead and stopped workers waited for the next one."""
    found: dict[str, list[float]] = {"": [], ", where a server died too": [], ", bound to that worker": []}
    wrong: list[str] = []
    for disturbance in evidence.workers:
        for change in held_by(evidence, disturbance):
            _succeeded(evidence, disturbance, change, found, wrong)
    lease = evidence.lease + evidence.moment
    bounds = (
        f"{lease:.0f} s",
        f"{lease + evidence.election:.0f} s",
        f"{lease:.0f} s, or once it is up",
    )
    figures = []
    for (which, seconds), bound in zip(found.items(), bounds, strict=True):
        what = f"calls of dead workers go on{which}"
        figures.append(Figure(what, f"{len(seconds)} take-overs", spread(seconds, 1), bound, not wrong))
    return figures, wrong


def held_by(evidence: Evidence, disturbance: Disturbance) -> list[Seen]:
    """The claims that the worker held when it was disturbed."""
    found = []
    for several in evidence.by_call.values():
        before = [change for change in several if change.at <= disturbance.began]
        if before and (record := before[-1].record).state == "running" and record.node == disturbance.name:
            found.append(before[-1])
    return found


def _succeeded(
    evidence: Evidence, one: Disturbance, held: Seen, found: dict[str, list[float]], wrong: list[str]
) -> None:
    record, began = held.record, one.began
    later = (change.record for change in evidence.by_call[record.call] if change.seq > held.seq)
    following = next((r for r in later if r.fence > record.fence or r.state != "running"), None)
    is_taken_over = following is not None and following.fence > record.fence
    begin = begin_of(evidence, record.call, following.fence) if following is not None and is_taken_over else None
    waited = (begin or following.updated if following is not None else float("inf")) - began
    bound, kind = evidence.lease + evidence.moment, ""
    if record.affinity:
        kind, bound = ", bound to that worker", max(bound, evidence.up_after(one) - began + evidence.moment)
    aftermath = AFTERMATH if waited > bound else 0.0
    if (elected := evidence.elected(began, began + waited, aftermath)) is not None:
        kind, bound = kind or ", where a server died too", bound + elected - began
    if waited > bound and (lost := evidence.detours(began + evidence.lease * UNTOLD, began + bound)):
        bound += lost + evidence.moment
    if waited > bound and one.kind == "stopped" and one.ended - began < bound:
        return  # it went on in time, and kept its lease
    if waited > bound:
        wrong.append(f"{record.call} waited {waited:.1f} s after {one}; allowed {bound:.0f} s")
    if is_taken_over or waited > bound:
        found[kind].append(waited)


def begin_of(evidence: Evidence, call: str, fence: int) -> float | None:
    """When the first body of a claim began."""
    several = evidence.bodies.get(evidence.numbers.get(call, -1), [])
    return next((body.note.at for body in several if body.note.fence == fence), None)


# due times

FREE, ELECTED, STOPPED, BUSY, LOADED = (
    "while servers live and a worker is free",
    "across a server's death",
    "its worker was stopped",
    "no worker was free",
    "no processor was free",
)


class Begun(msgspec.Struct, frozen=True):
    """An attempt that began after a wait that was left to the servers.

    Args:
        late: Seconds after its due time.
        most: Seconds that are allowed.
        kind: The circumstances.
        text: All of that for a person.
    """

    late: float
    most: float
    kind: str
    text: str

    @property
    def is_good(self) -> bool:
        """Whether it is neither late nor early."""
        return -PUNCTUAL <= self.late <= self.most


def punctuality(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """How late attempts began after a wait that was left to the servers."""
    waits = [c for c in evidence.changes if c.record.state == "waiting" and c.record.due is not None]
    begun = [found for change in waits if (found := begun_after(evidence, change)) is not None]
    lease = evidence.lease + evidence.moment
    targets = {
        FREE: f"{evidence.punctual:g} s",
        ELECTED: f"{evidence.election:.0f} s after the last",
        STOPPED: f"{lease:.0f} s for each, {evidence.election:.0f} s more where a server died",
        BUSY: "-",
        LOADED: f"{evidence.moment:.0f} s",
    }
    figures = []
    for kind, target in targets.items():
        those = [one for one in begun if one.kind == kind]
        is_good = all(one.is_good for one in those)
        text = spread([one.late for one in those], 3)
        figures.append(Figure(f"due times: {kind}", f"{len(those)} attempts", text, target, is_good))
    return figures, [one.text for one in begun if not one.is_good]


def begun_after(evidence: Evidence, waits: Seen) -> Begun | None:
    """The attempt that began after the wait of a call; None if none did."""
    record, due = waits.record, waits.record.due or 0.0
    several = evidence.bodies.get(evidence.numbers.get(record.call, -1), [])
    body = next((one for one in several if one.note.fence > record.fence), None)
    if body is None:
        return None
    note, late = body.note, body.note.at - due
    kind, most = FREE, evidence.punctual
    aftermath = AFTERMATH if late > PUNCTUAL else 0.0
    if (elected := evidence.elected(due - EARLY - 0.2, note.at, aftermath)) is not None:
        kind, most = ELECTED, elected - due
    stopped = [d for d in evidence.workers if d.began <= note.at and _hinders(evidence, d, note, due - EARLY)]
    least = evidence.lease - EARLY - 0.2  # so late is a call at least that is offered again
    gave_back = any(d.name == note.node or due - EARLY <= d.ended <= note.at for d in stopped)  # or ran it itself
    if late > most and stopped and (late > least or gave_back):
        least = max((evidence.up_after(d) - due for d in stopped if d.name == record.affinity), default=0.0)
        lost = evidence.detours(due - EARLY - 0.2, due + most)
        kind, most = STOPPED, max(evidence.lease, lost, least) + evidence.moment + (most if kind == ELECTED else 0.0)
    elif late > most and not evidence.has_free_worker(due - EARLY, min(note.at, due + most), record.affinity):
        kind, most = BUSY, float("inf")
    elif late > most and evidence.was_slow(due - EARLY, note.at):
        kind, most = LOADED, most + evidence.moment
    text = f"{record.call} was due at {due:.2f} and began {late:.3f} s later on {note.node}, {kind}"
    text += f"; allowed {most:.1f} s; its loop was {note.lag:.3f} s late"
    return Begun(late, most, kind, text)


def _hinders(evidence: Evidence, one: Disturbance, begin: Note, offered: float) -> bool:
    """Whether the disturbance may delay what is *offered* then: its request waits, or its worker has just gone on."""
    is_own = one.name == begin.node and evidence.up_after(one) + evidence.moment >= offered
    return is_own or evidence.asks_until(one) >= offered


def spread(seconds: list[float], digits: int) -> str:
    """The percentiles of *seconds*."""
    shown = percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds, default=0.0)
    return "p50 {:.{d}f} s, p99 {:.{d}f} s, worst {:.{d}f} s".format(*shown, d=digits)


def machine(notes: Iterable[Note], loads: Sequence[float], lags: Sequence[tuple[float, float]]) -> Figure:
    """How busy the machine was: what late attempts are judged by."""
    own = sorted(note.lag for note in notes if note.what == BEGIN)
    figure = f"workers' loops: p50 {percentile(own, 0.5):.3f} s, p99 {percentile(own, 0.99):.3f} s late"
    more = f"a thread that sleeps: p99 {percentile([lag for _, lag in lags], 0.99):.3f} s late"
    return Figure(
        "the machine", f"load {percentile(list(loads), 0.5):.1f} at the median", f"{figure}; {more}", "-", True
    )
