"""Laws of cloning: what an attempt changes after a failure, and what git gets in its environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.git.addresses import is_path, is_same, origin_of, shown, wrong_url
from adapters.git.attempts import Step, Way, deepenings, next_way, step_of, steps_of, valid
from adapters.git.environment import HELPER, OF_A_REPOSITORY, TOKEN, user_and_password, variables

URLS = (
    "https://github.com/o/r.git", "http://user@127.0.0.1:8080/o/r", "ssh://git@host:22/o/r", "git://host/o/r",
    "git@github.com:o/r.git", "/srv/o/r", "file:///srv/o/r",
)  # fmt: skip

urls = st.lists(st.sampled_from(URLS), min_size=1, max_size=4, unique=True)
depths = st.none() | st.integers(1, 5)
failures = st.sampled_from(("broken off", "elsewhere", "refused"))
retried = st.sampled_from(("broken off", "elsewhere"))
ways = st.builds(Way, st.integers(-1, 5), st.integers(-1, 5))


@given(ways, retried, urls, depths)
def test_an_attempt_after_a_failed_transfer_is_never_made_the_same_way(way, failure, urls, depth):
    way = valid(way, urls, depth)
    following = next_way(way, failure, urls, depth)
    assert valid(following, urls, depth) == following
    before, after = ((urls[one.server], step_of(one, urls, depth)) for one in (way, following))
    assert before != after


@given(urls, depths, failures)
def test_every_way_is_tried_in_the_end(urls, depth, failure):
    way, tried = Way(), set[Way]()
    for _ in range(40):
        tried.add(way)
        way = next_way(way, failure, urls, depth)
    every = {Way(server, step) for server, url in enumerate(urls) for step in range(len(steps_of(url, depth)))}
    match failure:
        case "broken off":
            assert tried == every
        case "elsewhere" if len(urls) > 1:
            assert tried == {Way(server, 0) for server in range(len(urls))}
        case "elsewhere":
            assert tried == every
        case "refused":
            assert tried == {Way()}


@given(st.sampled_from(URLS), depths)
def test_the_steps_of_a_server_begin_plain_and_never_fetch_more_than_is_wished(url, depth):
    steps = steps_of(url, depth)
    assert steps[0] == Step(depth=depth)
    assert len(set(steps)) == len(steps) >= 2
    assert all(step.depth == depth or step.depth == 1 for step in steps)


@given(depths)
def test_deepening_ends_with_the_history_that_is_wished_for(depth):
    assert deepenings(depth)[-1] == (("--unshallow",) if depth is None else (f"--depth={depth}",))


texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=20)
environs = st.dictionaries(
    st.sampled_from([*OF_A_REPOSITORY, "GIT_SSH_COMMAND", "GIT_ALLOW_PROTOCOL", "GIT_ASKPASS", "HOME"]), texts
)


@given(environs, st.sampled_from(URLS), st.sampled_from(("", "token-1234")), st.integers(0, 3))
def test_the_environment_of_git_leads_to_no_other_repository_and_asks_nothing(environ, url, token, count):
    given = {f"GIT_CONFIG_{kind}_{number}": "x.y" for kind in ("KEY", "VALUE") for number in range(count)}
    if count:
        given["GIT_CONFIG_COUNT"] = str(count)
    every = {**environ, **given} | variables({**environ, **given}, cwd="/srv/x", url=url, token=token, silence=5)
    made = {name: value for name, value in every.items() if value is not None}
    assert not (set(OF_A_REPOSITORY) - {"GIT_CEILING_DIRECTORIES"}) & set(made)
    assert (made["GIT_TERMINAL_PROMPT"], made["GIT_ASKPASS"]) == ("0", "")
    assert "ext" not in made["GIT_ALLOW_PROTOCOL"].split(":")
    assert is_path(url) or "file" not in made["GIT_ALLOW_PROTOCOL"].split(":")
    numbers = range(int(made["GIT_CONFIG_COUNT"]))
    settings = [(made[f"GIT_CONFIG_KEY_{one}"], made[f"GIT_CONFIG_VALUE_{one}"]) for one in numbers]
    assert ("core.hooksPath", "/dev/null") in settings
    assert settings[:count] == [("x.y", "x.y")] * count
    helpers = [value for key, value in settings if key == f"credential.{origin_of(url)}.helper"]
    assert helpers == (["", HELPER] if token and origin_of(url) else [])
    assert [name for name, value in made.items() if token and token in value] == ([TOKEN] if helpers else [])


@pytest.mark.parametrize(
    ("token", "url", "pair"),
    [
        ("t", "https://github.com/o/r", ("x-access-token", "t")),
        ("t", "https://gitlab.com/o/r", ("oauth2", "t")),
        ("me:t:u", "https://github.com/o/r", ("me", "t:u")),
    ],
)
def test_a_token_is_the_password_of_the_user_whom_the_host_expects(token, url, pair):
    assert user_and_password(token, url) == pair


@given(st.text(max_size=40) | st.sampled_from(URLS))
def test_a_url_that_git_may_get_is_no_option_and_names_no_program(url):
    if wrong_url(url) is None:
        assert not url.startswith("-")
        assert "::" not in url.partition("/")[0]
    assert isinstance(shown(url), str)


def test_one_repository_has_many_urls():
    assert all(wrong_url(url) is None for url in URLS)
    assert is_same("https://github.com/o/r.git", "git@GitHub.com:o/r")
    assert is_same("/srv/o/r", "file:///srv/o/r/")
    assert not is_same("https://github.com/o/r", "https://github.com/o/other")
    assert not is_same("http://127.0.0.1:1/o", "http://127.0.0.1:2/o")
