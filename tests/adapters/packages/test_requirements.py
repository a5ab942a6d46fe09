from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.packages.consent import RefusedRequirementsError, UnusualRequirementsError, agreed
from adapters.packages.requirements import InvalidRequirementsError, Requirements, read_requirements, requirement_lines
from recovery.service import Recovery


def read(tmp_path: Path, *files: str | bytes) -> Requirements:
    """The requirements of files that are named 0.txt, 1.txt, ...; the first is read."""
    for number, content in enumerate(files):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"{number}.txt").write_bytes(data)
    return read_requirements(tmp_path / "0.txt")


def texts(requirements: Requirements) -> list[str]:
    return [one.text for one in requirements.lines]


def test_lines_are_joined_and_comments_left_out(tmp_path: Path):
    found = read(
        tmp_path, "# all\n\nnumpy>=1.26,\\\n  <3 # not yet 3\n   # more\nrequests[socks] ; python_version > '3'\n"
    )
    assert texts(found) == ["numpy>=1.26,  <3", "requests[socks] ; python_version > '3'"]
    assert [one.number for one in found.lines] == [3, 6]
    assert not found.asked


def test_hashes_stay_with_their_requirement(tmp_path: Path):
    found = read(tmp_path, "--require-hashes\nnumpy==2.0 \\\n  --hash=sha256:aa \\\n  --hash sha256:bb\n")
    assert texts(found) == ["--require-hashes", "numpy==2.0   --hash=sha256:aa   --hash sha256:bb"]
    assert not found.asked


def test_included_files_count_from_the_file_that_includes_them(tmp_path: Path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("a\n-c limits.txt\n")
    (tmp_path / "more" / "limits.txt").write_text("b<2\n")
    found = read(tmp_path, "-rmore/a.txt\n--requirement=more/a.txt\nc\n")
    assert found.text() == "a\nc\n"
    assert found.text(constraints=True) == "b<2\n"


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("--index-url https://x.example/simple", "another index"),
        ("-i https://x.example/simple", "another index"),
        ("--extra-index-url=https://x.example/simple", "a further index"),
        ("-f https://x.example/wheels", "a page or folder"),
        ("--trusted-host x.example", "who a server is"),
        ("--no-index", "no package from an index"),
        ("--pre", "unfinished releases"),
        ("-e git+https://x.example/y#egg=y", "as it stands"),
        ("-r https://x.example/r.txt", "a file of a server"),
        ("y @ https://x.example/y.whl", "a file of a server"),
        ("https://x.example/y.whl", "a file of a server"),
        ("y @ git+https://x.example/y@main", "a repository"),
        ("git+ssh://git@x.example/y", "a repository"),
        ("y @ file:///srv/y.whl", "of this computer"),
        ("y --config-settings=a=b", "is built"),
        ("--only-binary :all: --index-url https://x.example", "how packages are installed"),
        ("--prefer-binary --index-url https://x.example", "how packages are installed"),
        ("--only-binary=:all:\t--index-url=https://x.example/\\y", "how packages are installed"),
        ("--require-hashes \\ # and the next line", "how packages are installed"),
        ("--frobnicate", "how packages are installed"),
    ],
)
def test_what_does_more_than_name_a_package_is_asked_about(tmp_path: Path, line: str, asks: str):
    found = read(tmp_path, "-r 1.txt\n", f"a\n{line}\nb\n")
    (asked,) = found.asked
    assert asks in asked.asks
    assert asked.shown.startswith(f"{tmp_path / '1.txt'}, line 2: ")
    assert texts(found.without_asked()) == ["a", "b"]


@pytest.mark.parametrize("place", ["./y", "y-1.0-py3-none-any.whl", "libs/y", "-e .[all]", "-f wheels"])
def test_paths_are_asked_about_and_absolute(tmp_path: Path, place: str):
    (asked,) = read(tmp_path, f"{place}\n").asked
    assert str(tmp_path) in asked.text
    assert ("-e" not in place) or asked.text == f"--editable {tmp_path}[all]"


def test_a_folder_with_spaces_is_an_url_which_needs_no_quotes(tmp_path: Path):
    (asked,) = read(tmp_path, "-e './a b[all]'\n").asked
    assert asked.text == f"--editable {tmp_path.as_uri()}/a%20b[all]"


def test_a_password_is_not_shown(tmp_path: Path):
    (asked,) = read(tmp_path, "-i https://user:geheim123@x.example/simple\n").asked
    assert "geheim123" in asked.text
    assert "geheim123" not in asked.shown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_any_editor_are_read(tmp_path: Path, encoding: str, end: str):
    assert texts(read(tmp_path, f"numpy # für alle{end}scipy{end}".encode(encoding))) == ["numpy", "scipy"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["-r 1.txt\n", "a\n-c 2.txt\n", "-r 0.txt\n"], "2.txt, line 1 includes"),
        (["-r 0.txt\n"], "0.txt, line 1 includes"),
        (["a\n-r missing.txt\n"], "0.txt, line 2 includes"),
        (["a\nb=1\n"], "0.txt, line 2: 'b=1' is no requirement"),
        (["a\n<<<<<<< HEAD\n"], "0.txt, line 2: '<<<<<<< HEAD' is no requirement"),
        (["a\nmüller\n".encode("latin-1")], "0.txt, line 2: 'müller' is no requirement"),
        (["-r\n"], "--requirement needs a value"),
        (["a\n-f 'x\n"], 'line 2: "-f \'x" is no requirement: No closing quotation'),
        ([b"PK\x03\x04\x00\x00"], "0.txt is no text: save it as UTF-8"),
        ([b"\xff\xfea"], "0.txt is no UTF-16"),
        (["-r .\n"], "cannot be read: is a folder"),
        ([b"#" * (1024 * 1024 + 1)], "cannot be read: has more than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, files: list[str | bytes], said: str):
    with pytest.raises(InvalidRequirementsError) as caught:
        read(tmp_path, *files)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InvalidRequirementsError, match=r"the requirements file .*none.txt does not exist"):
        read_requirements(tmp_path / "none.txt")


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from(["-r a", "-c b", "-r c", "x"]), max_size=4)))
def test_every_set_of_files_is_read_or_refused(files: dict[str, list[str]]):
    def read_one(path: Path) -> bytes:
        if path.name not in files:
            raise FileNotFoundError(path)
        return "\n".join(files[path.name]).encode()

    try:
        found = read_requirements(Path(os.sep) / "a", read_one)
    except InvalidRequirementsError:
        return
    assert {one.text for one in found.lines} <= {"x"}


def test_requirements_of_the_program_itself_need_no_question():
    found = requirement_lines(("numpy>=2", "y @ https://x.example/y.whl"))
    assert (found.text(), found.asked) == ("numpy>=2\ny @ https://x.example/y.whl\n", ())
    with pytest.raises(InvalidRequirementsError, match="'--pre' is no requirement"):
        requirement_lines(("--pre",))


def test_the_path_of_a_wheel_is_a_requirement_if_the_wheel_is_there(tmp_path: Path):
    wheel = "wheels/my_node-1.0-py3-none-any.whl"
    with pytest.raises(
        InvalidRequirementsError, match=f"the wheel {tmp_path}/{wheel} does not exist: correct the path"
    ):
        requirement_lines((f"./{wheel}",), tmp_path)
    (tmp_path / "wheels").mkdir()
    (tmp_path / wheel).touch()
    asked = f"my-node @ file://{tmp_path}/{wheel}\n"
    assert requirement_lines((f"./{wheel}",), tmp_path).text() == asked
    assert requirement_lines((f"{tmp_path}/{wheel}",), tmp_path).text() == asked
    with pytest.raises(InvalidRequirementsError, match=r"'a\.whl' is no wheel: "):
        requirement_lines(("a.whl",))
    with pytest.raises(InvalidRequirementsError, match=r"'\./node' is no requirement: .*; write 'NAME @ file:///PATH'"):
        requirement_lines(("./node",))


@pytest.mark.parametrize(("answer", "left"), [("allow", "a\n--pre\n"), ("without", "a\n"), ("refuse", None)])
def test_a_person_is_asked_once_about_the_lines_of_a_file(tmp_path: Path, answer: str, left: str | None):
    found = read(tmp_path, "a\n--pre\n")
    with Recovery() as service:
        with pytest.raises(UnusualRequirementsError, match=r"0\.txt, line 2: --pre \(takes unfinished") as caught:
            agreed(service.calls, "manager", found)
        remedy = caught.value.remedy
        assert remedy is not None
        assert remedy.question.startswith("options:manager:")
        service.calls.question(remedy.question, remedy.kind, remedy.choices)
        service.calls.answer(remedy.question, answer)
        if left is None:
            with pytest.raises(RefusedRequirementsError, match="a person refused"):
                agreed(service.calls, "manager", found)
        else:
            assert agreed(service.calls, "manager", found).text() == left
        changed = read(tmp_path, "a\n--pre\n-i https://x.example\n")
        with pytest.raises(UnusualRequirementsError):  # other lines are another question
            agreed(service.calls, "manager", changed)
