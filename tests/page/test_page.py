"""What the page shows, and what a person does there, against a server that streams given states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from adapters.web.state import CallLine, ChartCard, IncidentCard, PageState, QuestionCard
from tests.page.stage import Stage
from tests.page.states import bad_day
from tests.until import wait_until

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture
def stage(now: float) -> Iterator[Stage]:
    with Stage(bad_day(now)) as stage:
        yield stage


@pytest.fixture
def page(stage: Stage, open_page: Callable[..., Any]) -> Any:
    return open_page(stage.url)


def call(stage: Stage, name: str) -> CallLine:
    return stage.state.calls[name]


def words(page: Any, selector: str) -> str:
    return " ".join(page.locator(selector).inner_text().split())


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.closest('.call')?.id + ' ' + document.activeElement.textContent")


def test_a_server_says_how_it_is(page: Any, stage: Stage):
    line = CallLine(
        call="s", name="ComfyUI", operation="server", state="running", note="ready at http://127.0.0.1:8188"
    )
    stage.change(headline="x", calls={"s": line})
    page.get_by_text("server \u00b7 ready at http://127.0.0.1:8188").wait_for()


def test_a_call_names_its_question_where_there_are_several(page: Any, stage: Stage):
    question = "\u201cWhich access token may be used for huggingface.co?\u201d"
    assert words(page, "#call-c1-2 .next") == f"Next Waits for the answer to {question}"
    stage.change(headline="x", questions=stage.state.questions[:1])
    page.get_by_text("Waits for the answer to the question above").wait_for()


def test_a_call_says_why_it_failed_what_comes_next_and_what_a_person_can_do(page: Any):
    shown = words(page, "#call-c1-1")
    assert shown.startswith("Gave up vae-ft-mse.safetensors download · attempt 4 · 4 failures · ended ")
    assert "Why The disk is full: 6.2 GB more are needed in models/vae." in shown
    assert "It said OSError: [Errno 28] No space left on device" in shown
    assert "Next Nothing by itself: 4 attempts failed, and no more are allowed" in shown
    assert "You can Free some space. Then start it again." in shown
    assert shown.endswith("Start again, unchanged")


def test_a_call_that_waits_says_which_attempt_comes_next(page: Any):
    assert words(page, "#call-c1-3 .about").startswith(
        "download \u00b7 failed twice, attempt 3 comes next \u00b7 since "
    )
    assert page.locator("#call-c1-3 .when").get_attribute("title").startswith("next try in ")


def test_an_incident_is_probed_and_given_up_by_its_buttons(page: Any, stage: Stage):
    card = page.locator("#incidents .card").first
    name = stage.state.incidents[0].name
    card.get_by_role("button", name="Try now").click()
    wait_until(lambda: stage.posts == [("/incidents", {"action": "probe", "incident": name})])
    card.get_by_role("button", name="Give up its calls").click()
    stage.change(incidents=[replace(stage.state.incidents[0], waiting=7)])
    card.get_by_text("7 calls waiting").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Really give up?"
    card.get_by_role("button", name="Really give up?").click()
    wait_until(lambda: stage.posts[1:] == [("/incidents", {"action": "give up", "incident": name})])
    stage.change(may_change=False)
    card.get_by_role("button").first.wait_for(state="detached")


def test_the_top_line_is_the_title(page: Any, stage: Stage):
    stage.change(headline="All 12 calls are done")
    page.get_by_role("heading", name="All 12 calls are done", level=1).wait_for()
    assert page.title() == "All 12 calls are done"


def test_the_top_line_is_read_aloud_once_in_ten_seconds(stage: Stage, open_page: Callable[..., Any]):
    page = open_page(stage.url)
    page.clock.install()
    page.reload()
    page.locator(".call").first.wait_for()
    page.clock.run_for(20_000)
    page.evaluate("""() => {
        const node = document.querySelector("[aria-live]");
        window.said = [];
        new MutationObserver(() => said.push(node.textContent)).observe(node, { childList: true });
    }""")
    for headline in ("1 call waits", "2 calls wait", "3 calls wait"):
        stage.change(headline=headline)
        page.get_by_role("heading", name=headline, level=1).wait_for()
        page.clock.run_for(1500)
    page.clock.run_for(20_000)
    assert page.evaluate("said") == ["1 call waits", "", "3 calls wait", ""]


def test_calls_stand_in_three_groups(page: Any):
    assert page.locator("[data-group=look] .call .name").all_inner_texts() == ["vae-ft-mse.safetensors", "FLUX.1-dev"]
    assert page.locator("[data-group=open] .call").count() == 5
    assert page.locator("[data-group=over] .call").count() == 2
    assert page.locator("#more").inner_text() == "Not listed: 1,204 succeeded."


def test_a_countdown_runs_without_the_server(stage: Stage, open_page: Callable[..., Any]):
    page = open_page(stage.url)
    page.clock.install()
    page.reload()
    when = page.locator("#call-c1-3 .when")
    when.wait_for()
    page.clock.run_for(1000)
    before = when.inner_text()
    page.clock.run_for(10_000)
    assert before.startswith("in 0:")
    assert int(before[5:]) - int(when.inner_text()[5:]) in (9, 10, 11)
    page.clock.run_for(60_000)
    assert when.inner_text() == "now"


def test_a_server_whose_clock_is_ahead_has_the_same_countdown(stage: Stage, open_page: Callable[..., Any]):
    later = stage.state.at + 7200
    stage.state = bad_day(later)
    page = open_page(stage.url)
    assert page.locator("#call-c1-3 .when").inner_text() in ("in 0:42", "in 0:41", "in 0:40")


def test_a_change_patches_the_rows_that_changed_alone(page: Any, stage: Stage):
    page.evaluate("for (const row of document.querySelectorAll('.call')) row.mark = row.outerHTML")
    line = replace(call(stage, "c1-6"), state="succeeded")
    stage.change(headline="x", calls={"c1-6": line}, gone=["c1-9"])
    page.locator("[data-group=over] #call-c1-6").wait_for()
    changed = "[...document.querySelectorAll('.call')].filter((row) => row.mark !== row.outerHTML).map((row) => row.id)"
    assert set(page.evaluate(changed)) <= {"call-c1-6", "call-c1-3", "call-c1-4"}  # two of them count down
    assert page.locator("#call-c1-9").count() == 0


def test_the_focus_stays_when_a_row_changes_and_moves(page: Any, stage: Stage):
    page.locator("#call-c1-4 button[data-action=cancel]").focus()
    line = replace(call(stage, "c1-4"), state="quarantined", due=None, actions=("cancel",))
    stage.change(headline="x", calls={"c1-4": line})
    page.locator("[data-group=look] #call-c1-4").wait_for()
    assert focused(page) == "call-c1-4 Cancel"


def test_the_focus_goes_to_the_row_when_its_button_goes(page: Any, stage: Stage):
    page.locator("#call-c1-4 button[data-action=retry]").focus()
    stage.change(headline="x", calls={"c1-4": replace(call(stage, "c1-4"), actions=())})
    page.locator("#call-c1-4 button").first.wait_for(state="detached")
    assert focused(page).startswith("call-c1-4 ")


def test_the_focus_goes_to_a_neighbour_when_the_row_goes(page: Any, stage: Stage):
    page.locator("#call-c1-4 button[data-action=retry]").focus()
    stage.change(headline="x", gone=["c1-4"])
    page.locator("#call-c1-4").wait_for(state="detached")
    assert focused(page).startswith("call-c1-5 ")


def test_a_snapshot_puts_the_rows_in_the_order_of_the_server(page: Any, stage: Stage):
    lines = dict(reversed(stage.state.calls.items()))
    del lines["c1-5"]
    stage.show(replace(stage.state, calls=lines, headline="turned"))
    page.get_by_role("heading", name="Turned").wait_for()
    ids = page.locator(".call").evaluate_all("(rows) => rows.map((row) => row.id)")
    assert ids == [f"call-c1-{one}" for one in (2, 1, 7, 6, 4, 3, 9, 8)]


def test_retry_is_one_click_and_giving_up_is_two(page: Any, stage: Stage):
    stage.said = "attempt 2 begins now"
    page.locator("#call-c1-4 [data-action=retry]").click()
    page.get_by_role("status").get_by_text("Attempt 2 begins now").wait_for()
    assert stage.posts == [("/actions", {"action": "retry", "call": "c1-4"})]
    page.locator("#call-c1-4 [data-action='give up']").click()
    page.get_by_role("status").get_by_text(
        "Really give up? Press the button once more to end ComfyUI-Manager"
    ).wait_for()
    page.get_by_role("button", name="Really give up?").click()
    wait_until(lambda: len(stage.posts) == 2)
    assert stage.posts[1] == ("/actions", {"action": "give up", "call": "c1-4"})


def test_a_page_that_may_not_steer_has_no_buttons_and_no_fields(stage: Stage, open_page: Callable[..., Any]):
    stage.state = replace(stage.state, may_change=False)
    page = open_page(stage.url)
    assert page.locator(".call button, form").count() == 0
    stage.change(headline="x", may_change=True)
    page.locator("#call-c1-1 button").wait_for()
    assert page.locator("form").count() == 3


def test_a_question_that_is_closed_says_why_and_has_no_field(page: Any, stage: Stage):
    closed = replace(stage.state.questions[0], closed="It can be answered once its program runs again.")
    stage.change(headline="x", questions=[closed])
    page.get_by_text("It can be answered once its program runs again.").wait_for()
    assert page.locator("form").count() == 0


def test_a_secret_is_typed_unseen_and_answered_by_enter(page: Any, stage: Stage):
    field = page.get_by_label("Which access token may be used for huggingface.co?").and_(page.locator("input"))
    assert field.get_attribute("type") == "password"
    field.fill("hf_1234")
    field.press("Enter")
    wait_until(lambda: stage.posts)
    assert stage.posts == [("/answers", {"question": "token of huggingface.co", "value": "hf_1234"})]
    page.get_by_role("status").get_by_text("Done").wait_for()
    assert field.input_value() == ""


def test_a_confirmation_is_two_buttons_and_a_choice_one_of_its_answers(page: Any, stage: Stage):
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_label("Asia").check()
    page.locator("form:has(fieldset) button").click()
    wait_until(lambda: len(stage.posts) == 2)
    answers = [{"question": "overwrite", "value": False}, {"question": "mirror", "value": "Asia"}]
    assert [body for _, body in stage.posts] == answers


def test_a_half_typed_answer_survives_updates(page: Any, stage: Stage):
    field = page.locator("input[type=password]")
    field.press_sequentially("hf_")
    other = QuestionCard(name="other", kind="choice", choices=tuple("abcdefg"))
    stage.change(headline="x", questions=[other, *stage.state.questions])
    page.locator("select").wait_for()
    field.press_sequentially("12")
    assert field.input_value() == "hf_12"


def test_a_link_of_a_question_is_followed_only_to_the_web(page: Any, stage: Stage):
    asked = [
        QuestionCard(name=link, kind="confirm", link=link) for link in ("javascript:alert(1)", "https://a.example/")
    ]
    stage.change(headline="x", questions=asked)
    page.get_by_text("javascript:alert(1)").wait_for()
    links = page.locator("#questions a")
    assert links.evaluate_all("(all) => all.map((one) => [one.href, one.rel])") == [
        ["https://a.example/", "noopener noreferrer"]
    ]


def test_search_and_groups_choose_the_calls_that_are_shown(page: Any):
    page.get_by_label("Search the calls").fill("civitai 429")
    wait_until(lambda: page.locator(".call:visible").count() == 1)
    assert page.locator(".call:visible .name").inner_text() == "clip_l.safetensors"
    page.get_by_label("Search the calls").fill("")
    page.get_by_role("button", name="Finished 2").click()
    wait_until(lambda: page.locator(".call:visible").count() == 2)
    page.get_by_label("Search the calls").fill("nothing is called so")
    page.get_by_text("No call fits.").wait_for()


def test_markup_is_shown_as_text(page: Any, stage: Stage):
    fields = dict.fromkeys(("name", "operation", "state", "sentence", "said", "next", "remedy", "waits_for"), HOSTILE)
    chart = ChartCard(
        name="x",
        title=HOSTILE,
        summary=HOSTILE,
        svg="<svg xmlns='http://www.w3.org/2000/svg'>"
        "<script>document.title=3</script><foreignObject/><a href='javascript:x'/><rect data-x='1' width='3'/></svg>",
    )
    hostile: dict[str, Any] = {
        "headline": HOSTILE,
        "source": HOSTILE,
        "notes": [HOSTILE],
        "calls": {HOSTILE: CallLine(call=HOSTILE, **fields)},
        "incidents": [IncidentCard(name=HOSTILE, sentence=HOSTILE, since=0.0)],
        "questions": [QuestionCard(name=HOSTILE, kind="choice", text=HOSTILE, choices=(HOSTILE,), reason=HOSTILE)],
        "circuits": {HOSTILE: HOSTILE},
        "charts": [chart],
    }
    stage.change(**hostile)
    page.get_by_role("heading", name=HOSTILE, level=1).wait_for()
    assert page.title() == HOSTILE
    assert page.locator("body img, body script, foreignObject, svg a, svg [data-x]").count() == 0
    assert page.locator("#charts rect").get_attribute("width") == "3"


def test_a_lost_connection_is_said_and_ends_with_a_snapshot(page: Any, stage: Stage):
    stage.status = 503
    stage.drop()
    page.get_by_text("Too many pages are open").wait_for()
    stage.state = replace(stage.state, headline="here again", calls={})
    stage.status = 200
    page.get_by_role("heading", name="Here again").wait_for()
    assert not page.locator("#connection").is_visible()
    page.get_by_text("No calls yet.").wait_for()


def test_a_page_whose_token_is_not_valid_any_more_says_so(page: Any, stage: Stage):
    stage.status = 401
    stage.drop()
    page.get_by_text("This link is no longer valid").wait_for()


def test_a_hidden_tab_closes_its_stream_and_a_shown_one_gets_a_snapshot(page: Any, stage: Stage):
    turn = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(turn, True)

    def is_gone() -> bool:
        stage.change(headline="nobody sees it")
        return not stage.streams

    wait_until(is_gone)
    stage.state = replace(stage.state, headline="seen")
    page.evaluate(turn, False)
    page.get_by_role("heading", name="Seen").wait_for()
    assert stage.begun == 2


def test_everything_can_be_reached_with_the_keyboard(page: Any):
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
    assert reached[0] == "Skip to the calls"
    assert {"Yes", "No", "search", "Retry now", "Continue", "Start again, unchanged"} <= set(reached)


def test_a_state_without_anything_says_so(stage: Stage, open_page: Callable[..., Any]):
    stage.state = PageState(at=stage.state.at, headline="no calls", source="empty.db", is_live=False)
    page = open_page(stage.url)
    assert words(page, "main") == "Calls All 0 Needs a look 0 Waiting and running 0 Finished 0 No calls yet."
    assert words(page, ".source") == "empty.db not running"
    assert words(page, "h1") == "No calls"


def test_buttons_stand_in_the_order_of_the_server_whichever_were_there_before(page: Any, stage: Stage):
    buttons = page.locator("#call-c1-6 button")
    assert buttons.all_inner_texts() == ["Cancel"]
    stage.change(headline="x", calls={"c1-6": replace(call(stage, "c1-6"), actions=("retry", "pause", "cancel"))})
    wait_until(lambda: buttons.count() == 3)
    assert buttons.all_inner_texts() == ["Retry now", "Pause", "Cancel"]


def test_a_sentence_begins_with_a_capital_unless_it_begins_with_a_name(page: Any, stage: Stage):
    for given, shown in (("no calls", "No calls"), ("a.example is down", "a.example is down"), ("7 wait", "7 wait")):
        stage.change(headline=given)
        page.get_by_role("heading", name=shown, exact=True, level=1).wait_for()
