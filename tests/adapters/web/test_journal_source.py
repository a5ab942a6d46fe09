"""The page of a journal: what its file says, and what is done through the process that writes it, or without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.sqlite import SQLiteStore
from adapters.web.journal_source import DEAD, NO_JOURNAL, NO_PROGRAM, NOT_YET, JournalSource
from adapters.web.source import done_in
from adapters.web.state import CallLine
from events import Category
from recovery import BreakerPolicy, Recovery, RetryPolicy, Strategy
from recovery.testing import Script
from tests.adapters.web.test_service_source import EVIL, HOUR, begun, only, waiting_call
from tests.until import wait_until


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def service_at(journal: Path, **options: object) -> Recovery:
    return Recovery(store=SQLiteStore(journal), enable_logging=False, **options)


def committed(service: Recovery) -> None:
    assert service.journal is not None
    service.journal.receipt().wait()


def line_of(source: JournalSource, state: str) -> CallLine | None:
    return next((line for line in source.read().calls.values() if line.state == state), None)


def test_a_journal_that_is_not_there_yet_says_so(journal: Path):
    state = JournalSource(journal, "plan.toml").read()
    assert (state.headline, state.source, state.notes) == ("no journal yet", "plan.toml", (NOT_YET,))
    assert not journal.exists()


def test_a_file_that_is_no_journal_says_so_without_its_path(journal: Path):
    journal.write_bytes(b"no database at all" * 100)
    state = JournalSource(journal).read()
    assert (state.headline, state.notes) == ("the journal cannot be read", (NO_JOURNAL,))
    assert str(journal) not in str(state)


@pytest.mark.slow
def test_a_call_of_a_living_process_is_shown_and_steered(journal: Path):
    with service_at(journal, policy=HOUR) as service:
        fetch = service.recoverable("fetch", resumable=True)(Script(ConnectionRefusedError(111, EVIL)))
        with waiting_call(service, fetch) as call:
            committed(service)
            source = JournalSource(journal, every=0.0)
            state = source.read()
            line = only(state)
            assert (line.call, line.state, state.is_live) == (call, "waiting", True)
            assert DEAD not in state.notes
            assert "hf_abc" not in str(state)
            assert source.act("pause", call).is_done
            wait_until(lambda: line_of(source, "paused"))
            assert source.act("retry", call).is_done
        wait_until(lambda: line_of(source, "succeeded"))


def test_a_journal_is_read_only_when_it_has_changed(journal: Path):
    with service_at(journal) as service:
        service.recoverable("fetch", resumable=True)(Script())()
        committed(service)
        source = JournalSource(journal, every=0.0)
        former = source.read()
        assert source.read() is former
        service.recoverable("other", resumable=True)(Script())()
        committed(service)
        assert len(source.read().calls) == 2


def test_a_dead_journal_shows_what_was_left_and_ends_it(journal: Path):
    with service_at(journal, policy=HOUR) as service:
        fetch = service.recoverable("fetch", resumable=True)(Script(ConnectionRefusedError()))
        with begun(fetch):
            wait_until(service.calls.waiting)
            [waiting] = service.calls.waiting()
            service.stop()
            service.calls.give_up(waiting.call)
    source = JournalSource(journal, every=0.0)
    state = source.read()
    assert (only(state).state, state.is_live, DEAD in state.notes) == ("left", False, True)
    assert state.headline == "1 call interrupted"
    assert source.act("cancel", waiting.call).is_done
    assert only(source.read()).state == "cancelled"
    assert not source.act("retry", waiting.call).is_done


def test_a_call_is_steered_by_its_whole_id_and_no_answer_names_a_path(journal: Path):
    with service_at(journal, policy=RetryPolicy(max_retries=0)) as service:
        fetch = service.recoverable("fetch", resumable=True)(Script(ValueError(), ValueError()))
        for _ in range(2):
            with begun(fetch):
                pass
    source = JournalSource(journal, every=0.0)
    call = min(source.read().calls)
    for named in ("fetch", call[:-2], call[:-1], "", "nothing-1"):
        assert source.act("again", named).said == "no call has this id"
    with pytest.raises(LookupError, match="no call has asked this question"):
        source.answer("nothing", "yes")
    with pytest.raises(LookupError, match="not open any more"):
        source.steer_incident("probe", "fetch")
    assert done_in(journal, f"no process that writes {journal} has answered", is_done=False).said == (
        "no process that writes the journal has answered"
    )


@pytest.mark.slow
def test_an_incident_of_a_living_process_is_probed_and_given_up(journal: Path):
    breaker = BreakerPolicy(failure_threshold=1, break_duration=3600.0)
    with service_at(journal, breaker=breaker, when_open="wait", policy=RetryPolicy(max_retries=0)) as service:
        fetch = service.recoverable("download", key=lambda: "example.org")(Script(*[ConnectionRefusedError()] * 9))
        with begun(fetch):
            pass
        with waiting_call(service, fetch):
            committed(service)
            source = JournalSource(journal, every=0.0)
            assert [one.name for one in source.read().incidents] == ["download[example.org]"]
            assert source.steer_incident("give up", "download[example.org]").is_done
        wait_until(lambda: not service.calls.waiting())
        assert source.steer_incident("probe", "download[example.org]").is_done


@pytest.mark.slow
def test_a_question_of_a_journal_is_answered(journal: Path):
    with service_at(journal) as service:
        asks = service.calls.question(
            "licence", "choice", ["yes", "no"], "May it be installed?", "https://example.org/"
        )
        policy = RetryPolicy(per_category={Category.UNREACHABLE: Strategy(wait_for=(asks,))})
        fetch = service.recoverable("fetch", policy=policy, resumable=True)(Script(ConnectionRefusedError()))
        with waiting_call(service, fetch):
            source = JournalSource(journal, every=0.0)
            wait_until(lambda: source.read().questions)
            [question] = source.read().questions
            assert (question.choices, question.link, question.calls) == (("yes", "no"), "https://example.org/", 1)
            assert question.waiting == ("fetch",)
            with pytest.raises(ValueError, match="must be one of"):
                source.answer("licence", "perhaps")
            with pytest.raises(LookupError):
                source.answer("nothing", "yes")
            assert source.answer("licence", "yes").is_done
            wait_until(lambda: not service.calls.waiting())
    assert source.read().questions == ()


def test_a_secret_can_be_answered_only_while_a_program_runs(journal: Path):
    with service_at(journal) as service:
        asks = service.calls.question("token:hf", "secret", text="A token of hf")
        policy = RetryPolicy(per_category={Category.UNREACHABLE: Strategy(wait_for=(asks,))})
        fetch = service.recoverable("fetch", policy=policy, resumable=True)(Script(ConnectionRefusedError()))
        with begun(fetch):
            source = JournalSource(journal, every=0.0)
            wait_until(lambda: source.read().questions)
            assert source.read().questions[0].closed == ""
            [waiting] = service.calls.waiting()
            service.stop()
            service.calls.give_up(waiting.call)
    [question] = JournalSource(journal).read().questions
    assert question.closed == NO_PROGRAM
    given = JournalSource(journal).answer("token:hf", "s3cret s3cret")
    assert (given.is_done, given.said) == (False, NO_PROGRAM)
    assert not [file for file in journal.parent.rglob("*") if file.is_file() and b"s3cret" in file.read_bytes()]
