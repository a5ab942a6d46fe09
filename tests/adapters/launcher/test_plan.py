from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.downloads.names import files_of
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.bricks import Bricks
from adapters.launcher.kinds.command import Command
from adapters.launcher.kinds.download import Download
from adapters.launcher.plan import MOST_BYTES, LaunchPlan, PlanError, load_plan
from adapters.memory import MemoryStore
from events.errors import RecoveryError
from recovery.policies.backoff import Exponential
from recovery.service import Recovery

SHA256 = "0123456789abcdef" * 4


def download(name: str = "model", /, **values: str) -> str:
    """The TOML of a download; *values* are TOML, "" leaves a key out."""
    known = {
        "name": f'"{name}"',
        "kind": '"download"',
        "url": f'"https://example.org/{name}"',
        "destination": f'"files/{name}"',
    }
    return operation(known | values)


def command(name: str = "install", /, **values: str) -> str:
    return operation({"name": f'"{name}"', "kind": '"command"', "run": '["true"]'} | values)


def operation(values: dict[str, str]) -> str:
    return "[[operation]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)


def load(folder: Path, *parts: str) -> LaunchPlan:
    path = folder / "launch.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return load_plan(path)


def place_of(plan: LaunchPlan, text: str) -> Path:
    """Where a launch of *plan* puts *text*, with links as they are now."""
    return Bricks(Recovery(store=MemoryStore()), plan.root, follow_links=plan.follow_links).place(text)


def refusal(folder: Path, *parts: str) -> tuple[str, str]:
    """Key and reason of the PlanError; it is one line that names the file."""
    with pytest.raises(PlanError) as caught:
        load(folder, *parts)
    error, text = caught.value, str(caught.value)
    assert isinstance(error, RecoveryError)
    assert text.startswith(f"{folder / 'launch.toml'}: ")
    assert text.isprintable()
    assert len(text) < 400
    assert error.reason
    assert text.endswith(error.reason)
    assert error.key in text
    return error.key, error.reason


# A good plan


def test_a_plan_is_what_it_says(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        'root = "models"',
        "[retry]\nmax_retries = 7\ninitial_delay = 1\nbackoff_factor = 3.0\nmax_delay = 9.0\nmax_elapsed = 99",
        "[circuit]\nfailure_threshold = 2\nbreak_duration = 4.0",
        "[download]\nparallel = 3\nstall_timeout = 12",
        download(sha256=f'"{SHA256}"', size="12"),
        command(needs='["model"]', run='["pip", "install"]', cwd='"sub"'),
    )
    assert plan.steps == (
        Download(
            name="model", url="https://example.org/model", destination="files/model", sha256=SHA256, size=12, needs=()
        ),
        Command(name="install", run=("pip", "install"), cwd="sub", needs=("model",)),
    )
    assert (plan.policy.max_retries, plan.policy.backoff) == (7, Exponential(1.0, 3.0))
    assert (plan.policy.max_delay, plan.policy.max_elapsed) == (9.0, 99.0)
    assert (plan.breaker.failure_threshold, plan.breaker.break_duration) == (2, 4.0)
    assert plan.breaker.counts == "attempts"  # those that never reached the host
    assert (plan.parallel, plan.stall_timeout) == (3, 12.0)
    assert place_of(plan, "files/model") == tmp_path / "models" / "files" / "model"
    assert plan.journal == tmp_path / ".recovery" / "launch.db"


@pytest.mark.parametrize("destination", ["a", "./a", "sub/../a", "sub/deeper/a", "..a", "a b", "ä/模型.bin"])
def test_a_destination_may_be_anywhere_below_the_root(tmp_path: Path, destination: str) -> None:
    load(tmp_path, download(destination=f'"{destination}"'))


def test_a_link_may_lead_to_where_the_root_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "real")
    load(tmp_path, 'root = "models"', download())


# A bad one: which key is named


@pytest.mark.parametrize(
    ("parts", "key", "reason"),
    [
        # what is not there, or too much
        (("",), "operation", ""),
        (("operation = []",), "operation", ""),
        ((download(name=""),), "operation[0].name", ""),
        ((download(kind=""),), "operation[0].kind", ""),
        ((download(url=""),), "operation[0].url", "is missing"),
        ((download(destination=""),), "operation[0].destination", ""),
        ((download(), command(run="")), "operation[1].run", ""),
        ((download(flavor='"red"'),), "operation[0].flavor", "there is no such key; it has kind, name, needs, "
         "optional, retry, url, destination, mirrors, sha256, size"),
        ((command(need='["model"]'),), "operation[0].need", "there is no such key; did you mean 'needs'?"),
        (("[retry]\nretries = 1", download()), "retry.retries",
         "there is no such key; use max_retries (which does not count the first attempt)"),
        (("[circuit]\nfailure_treshold = 1", download()), "circuit.failure_treshold",
         "there is no such key; did you mean 'failure_threshold'?"),
        (("rot = 1", download()), "rot", "there is no such key; did you mean 'root'?"),
        ((download(run='["x"]'),), "operation[0].run",
         "there is no such key; operations of kind 'command' have it"),
        ((command(url='"https://example.org"'),), "operation[0].url", ""),
        (("parallel = 1", download()), "parallel", "there is no such key; [download] has it"),
        (("flavor = 1", download()), "flavor", ""),
        (("[retry]\nflavor = 1", download()), "retry.flavor", ""),
        (("[circuit]\nflavor = 1", download()), "circuit.flavor", ""),
        (("[download]\nflavor = 1", download()), "download.flavor", ""),
        # kinds, names and needs
        ((download(kind='"upload"'),), "operation[0].kind", "there is no kind 'upload'; a plan has download, command, "
         "git, venv, packages, server, comfyui, prompt, steps"),
        ((download(name='""'),), "operation[0].name", ""),
        ((download(name=f'"{"x" * 201}"'),), "operation[0].name", ""),
        ((download(), command("model")), "operation[1].name", "'model' is operation[0] already"),
        ((download(needs='["nothing"]'),), "operation[0].needs", "there is no operation 'nothing'"),
        ((download(needs='["model"]'),), "operation[0].needs", "a cycle: model -> model"),
        ((command("a", needs='["b"]'), command("b", needs='["a"]')), "operation[0].needs", "a cycle: a -> b -> a"),
        ((command("z"), command("a", needs='["c"]'), command("b", needs='["a"]'), command("c", needs='["b"]')),
         "operation[1].needs", ""),
        # the same command twice
        ((command("a"), command("b", cwd='"./."')), "operation[1].run",
         "is the command of operation[0], in the same folder; let one of them need the other"),
        # wrong types
        ((download(size="true"),), "operation[0].size", ""),
        ((download(needs="[1]"),), "operation[0].needs[0]", ""),
        ((command(run="[]"),), "operation[0].run", ""),
        (("root = 1", download()), "root", ""),
        # values
        (("[retry]\nmax_retries = -1", download()), "retry.max_retries", "must be at least 0, not -1"),
        (("[retry]\nmax_retries = true", download()), "retry.max_retries",
         "must be a whole number or 'none', not bool"),
        (("[retry]\ninitial_delay = nan", download()), "retry.initial_delay", "must be finite, not nan"),
        ((download(size="-1"),), "operation[0].size", ""),
        ((download(sha256='""'),), "operation[0].sha256", "must be 64 hex digits"),
        ((download(destination='"x.part"'),), "operation[0].destination",
         "'x.part' has a name as the partial files of downloads have it; choose another one"),
        ((download(sha256=f'"{SHA256[1:]}"'),), "operation[0].sha256", ""),
        ((download(sha256=f'"{SHA256[1:]}g"'),), "operation[0].sha256", ""),
        ((download(sha256=f'"{SHA256}\\n"'),), "operation[0].sha256", ""),
        ((download(url='"ftp://host/"'),), "operation[0].url", "'ftp://host/' is no http or https URL"),
        ((download(url='""'),), "operation[0].url", ""),
        ((download(url='"https://"'),), "operation[0].url", ""),
        ((download(url='"https://example.org:port/"'),), "operation[0].url", ""),
        ((download(url='"https://example.org/\\u0000"'),), "operation[0].url", ""),
        ((download(url='"https://example.org/\\n"'),), "operation[0].url", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_key(tmp_path: Path, parts: tuple[str, ...], key: str, reason: str) -> None:
    found = refusal(tmp_path, *parts)
    assert found == (key, reason or found[1])


@pytest.mark.parametrize(
    ("table", "field", "values"),
    [
        ("retry", "max_retries", ["-1", "true", "1.5", "nan", '"3"']),
        ("retry", "initial_delay", ["-0.1", "nan", "inf", "-inf", "true", '"1"']),
        ("retry", "backoff_factor", ["0.5", "-1", "nan", "inf", "true"]),
        ("retry", "max_delay", ["-1", "nan", "inf", "true"]),
        ("retry", "max_elapsed", ["-1", "nan", "inf", "true", '"1"']),
        ("retry", "jitter", ['"some"', "1", "true"]),
        ("circuit", "failure_threshold", ["0", "-1", "true", "1.5"]),
        ("circuit", "break_duration", ["0", "-1", "nan", "inf", "true"]),
        ("download", "parallel", ["0", "-1", "true", "1.5"]),
        ("download", "stall_timeout", ["0", "-1", "nan", "inf", "true"]),
    ],
)
def test_a_number_out_of_range_is_named_by_its_key(tmp_path: Path, table: str, field: str, values: list[str]) -> None:
    for value in values:
        key, reason = refusal(tmp_path, f"[{table}]\n{field} = {value}", download())
        assert (key, bool(re.match("must be|expected", reason))) == (f"{table}.{field}", True), value


# Where files may be


@pytest.mark.parametrize("field", ["destination", "cwd"])
@pytest.mark.parametrize(
    "place", ["..", "../model", "sub/../../model", "/etc/passwd", "out/model", "out", "loop/model", "a\\u0000b"]
)
def test_no_place_is_outside_the_root(tmp_path: Path, place: str, field: str) -> None:
    root = tmp_path / "models"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    make = download if field == "destination" else command
    key, reason = refusal(tmp_path, 'root = "models"', make(**{field: f'"{place}"'}))
    assert key == f"operation[0].{field}"
    assert "outside the root" in reason or "is no place" in reason


@pytest.mark.parametrize("place", ["", ".", "sub/..", "launch.toml", ".recovery/launch.db", ".recovery/launch.db-wal"])
def test_no_destination_is_the_root_the_plan_or_its_journal(tmp_path: Path, place: str) -> None:
    assert refusal(tmp_path, download(destination=f"'{place}'"))[0] == "operation[0].destination"


@pytest.mark.parametrize("root", ["loop", "a\\u0000b"])
def test_a_root_that_is_no_place_is_refused(tmp_path: Path, root: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(tmp_path, f'root = "{root}"', download())[0] == "root"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a"),
        ("a", "./a"),
        ("a", "sub/../a"),
        ("a", "link/a"),
        ("a", "a.part"),
        ("a.part.json", "a"),
        ("a", "a/b"),
        ("a/b/c", "a"),
    ],
)
def test_no_two_operations_write_the_same_file(tmp_path: Path, one: str, other: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    key, _ = refusal(tmp_path, download("first", destination=f'"{one}"'), download("second", destination=f'"{other}"'))
    assert key in ("operation[0].destination", "operation[1].destination")


def test_a_place_is_looked_up_again_when_it_is_used(tmp_path: Path) -> None:
    plan = load(tmp_path, 'root = "models"', download(destination='"files/model"'))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "inside").mkdir()
    (tmp_path / "models" / "files").symlink_to(tmp_path / "models" / "inside")
    assert place_of(plan, "files/model") == tmp_path / "models" / "inside" / "model"
    (tmp_path / "models" / "files").unlink()
    (tmp_path / "models" / "files").symlink_to(tmp_path)
    with pytest.raises(InvalidRequestError, match="'files/model' is outside the root"):
        place_of(plan, "files/model")


def test_a_destination_is_no_folder_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    key, reason = refusal(tmp_path, download(destination='"checkpoints"'))
    assert (key, "is a folder" in reason) == ("operation[0].destination", True)


@pytest.mark.parametrize(
    ("place", "is_too_long"),
    [
        ("a" * 255, False),
        ("a" * 256, True),
        ("模" * 85, False),
        ("模" * 86, True),
        ("a" * 256 + "/model", True),
        ("/".join(["a" * 200] * 18), False),
        ("/".join(["a" * 200] * 21), True),
    ],
)
@pytest.mark.parametrize("field", ["destination", "cwd"])
def test_a_name_that_the_system_cannot_take_is_refused_before_anything_begins(
    tmp_path: Path, place: str, is_too_long: bool, field: str
) -> None:
    if is_too_long:
        make = download if field == "destination" else command
        key, reason = refusal(tmp_path, make(**{field: f'"{place}"'}))
        assert (key, "too long" in reason or "is no place" in reason) == (f"operation[0].{field}", True)
    elif field == "cwd":
        load(tmp_path, command(cwd=f'"{place}"'))
    else:
        plan = load(tmp_path, download(destination=f'"{place}"'))
        for file in files_of(place_of(plan, place)):  # every one of them can be made
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


@pytest.mark.parametrize(
    "url",
    ["http://h:99999/x", "http://h:65536", "http://h:0/", "http://h:-1/", f"http://{'a' * 64}.org/", "http://a..b/"],
)
def test_a_url_that_no_connection_can_be_made_to_is_refused(tmp_path: Path, url: str) -> None:
    assert refusal(tmp_path, download(url=f'"{url}"'))[0] == "operation[0].url"


@pytest.mark.parametrize("url", ["http://h:65535/x", "http://[::1]:80/x", f"http://{'a' * 63}.org./", "http://ä.de/x"])
def test_a_url_that_may_be_right_is_taken(tmp_path: Path, url: str) -> None:
    load(tmp_path, download(url=f'"{url}"'))


# What is no plan at all


@pytest.mark.parametrize("run", ['["true\\u0000"]', '["true", "a\\u0000"]', '[""]'])
def test_a_command_that_no_system_can_start_is_refused(tmp_path: Path, run: str) -> None:
    assert refusal(tmp_path, command(run=run))[0] == "operation[0].run"


def test_a_plan_with_a_byte_order_mark_is_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_text(download(), encoding="utf-8-sig")
    assert len(load_plan(path).steps) == 1
    path.write_text(download(flavor='"red"'), encoding="utf-8-sig")
    with pytest.raises(PlanError, match="there is no such key"):
        load_plan(path)
    path.write_text(download(), encoding="utf-16")
    with pytest.raises(PlanError, match="is in UTF-16"):
        load_plan(path)


def test_a_plan_may_be_a_link_and_have_a_second_name(tmp_path: Path) -> None:
    real = tmp_path / "real.toml"
    real.write_text(download())
    (tmp_path / "link.toml").symlink_to(real)
    (tmp_path / "second.toml").hardlink_to(real)
    assert load_plan(tmp_path / "link.toml").journal == tmp_path / ".recovery" / "link.db"
    load_plan(tmp_path / "second.toml")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "is a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe, a socket or a device"),
        (lambda path: path.write_bytes(b"#" * (MOST_BYTES + 1)), "has more than"),
        (lambda path: path.symlink_to(path), "Symlink loop"),
    ],
    ids=["pipe", "device", "endless", "circle"],
)
def test_a_plan_that_cannot_be_read_in_bounds_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "launch.toml")
    with pytest.raises(PlanError, match=reason) as caught:
        load_plan(tmp_path / "launch.toml")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [b"= =", b"\xe9\xe8", b"[[operation]", b'name = "\n"', b"{}", b"x = " + b"[" * 20_000, b"a = 1\na = 2"],
    ids=["nonsense", "not UTF-8", "unclosed", "unclosed text", "JSON", "too deep", "twice"],
)
def test_what_is_not_toml_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "launch.toml"
    path.write_bytes(text)
    with pytest.raises(PlanError, match=r"launch\.toml: not TOML: ") as caught:
        load_plan(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing.toml", "No such file or directory"),
        ("folder", "is a folder"),
        ("file/plan.toml", "Not a directory"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError) as caught:
        load_plan(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {reason}"
