"""What the error messages of git, pip, uv, venv and CUDA mean: ordered patterns, of which the first match decides.

An exit code says little (git exits with 128 for a lost network and for a missing repository alike); the message says
more. Each pattern was taken from real output; ``tests/golden/failures.toml`` holds examples.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from events.evidence import Category

T, U, R, E, A, L, P, X, C = Category  # transient, unreachable, ..., exhausted, cancelled: short, for the tables


class ErrorPattern(msgspec.Struct, frozen=True):
    """An error message and what it means.

    Args:
        name: The name of the rule in events and logs, by which ``recovery.policies.sentences`` knows what it means.
        category: What a message that matches means.
        pattern: A regular expression, searched for; case is ignored, ``.`` spans lines.
    """

    name: str
    category: Category
    pattern: str


def _rules(*rules: tuple[str, Category, str]) -> tuple[ErrorPattern, ...]:
    return tuple(ErrorPattern(*rule) for rule in rules)


GPU = _rules(
    ("gpu-missing", P, r"not compiled with cuda|no nvidia driver|no cuda gpus are available|no cuda-capable device|"
     r"cuda driver version is insufficient|no kernel image is available|invalid device ordinal|"
     r"driver/library version mismatch|libcuda\.so.{0,40}cannot open"),
    ("gpu-memory", E, r"out of memory.{0,80}cuda|cuda.{0,80}out of memory|outofmemoryerror|allocation on device"),
    ("gpu-poisoned", L, r"cuda error|device-side assert|cublas_status_|cudnn_status_"),
)  # fmt: skip

STATUS = r"(?:http error |could not fetch url .{0,400}: |status client error \(|returned a )"
"""What pip and uv print before the status of an index. pip tells that of a page in its log (``--log``) alone."""

ILL = r"(?:408|425|429|5[0-9]{2})"
"""The statuses of a server that is ill or busy."""

TRANSPORT = (
    r"incompleteread|readtimeouterror|connectionreseterror|newconnectionerror|max retries exceeded|"
    r"error: (?:incomplete-download|connection-timeout|connection-failed|proxy-connection-failed)"
)
"""What pip prints where the network failed. In a line ``Retrying``, the next try may have been better."""

PROCESSES = _rules(
    # What fills the disk breaks off transfers, too.
    ("disk-full", E, r"no space left on device|disk quota exceeded|errno 28\]|winerror 112"),
    # git: a clone that breaks off starts over; a missing or private repository stays so.
    ("git-unreachable", U, r"could not resolve (host|proxy)|failed to connect to|couldn't connect to server|"
     r"fatal: unable to (look up|connect to) |ssh: connect to host"),
    ("git-server", T, r"requested url returned error: (408|429|5[0-9]{2})"),
    ("git-lfs", P, r"git-lfs: (command )?not found|git: 'lfs' is not a git command"),
    ("git-damaged", P, r"index file (smaller than expected|corrupt)|bad index file sha1|(loose|packed) object .{0,300} "
     r"is corrupt|object file .{0,300} is empty|bad signature 0x"),
    ("git-protocol", P, r"transport '[^'\n]{1,40}' not allowed"),
    ("git-broken-off", T, r"rpc failed; |early eof|invalid index-pack output|remote end hung up|operation too slow|"
     r"unable to access .{0,300}(transfer closed|empty reply|timed out|tls connection|ssl_(connect|read|error)|recv)"),
    ("git-login", A, r"could not read (username|password)|authentication failed for|permission denied \(publickey|"
     r"host key verification failed"),
    ("git-missing", P, r"repository (.{0,300} )?(not found|does not exist)|does not appear to be a git repository|"
     r"repository not exported|requested url returned error: (40[0134]|410)|remote branch .{0,300} not found|"
     r"pathspec .{0,300} did not match|couldn't find remote ref|not our ref|not a git repository|"
     r"unknown revision or path|unable to find remote helper"),
    ("git-owner", P, r"detected dubious ownership"),
    ("git-lock", E, r"index\.lock.{0,80}file exists|another git process seems to be running"),
    ("git-husk", E, r"destination path .{0,300} already exists and is not an empty"),
    ("git-local-changes", A, r"would be overwritten by|not possible to fast-forward|divergent branches"),
    ("certificate", P, r"certificate_verify_failed|ssl certificate problem|invalid peer certificate|"
     r"server certificate verification failed|ssl-verification-failed"),
    # pip and uv: a refusal or a lost network can look like a missing package, so these are looked for first.
    ("index-refused", A, rf"{STATUS}403"),
    ("index-login", A, rf"{STATUS}(?:401|407)|lack of valid authentication credentials|"
     r"user for .{0,200}: error: exception.{0,4000}eoferror"),
    ("index-server", T, rf"{STATUS}{ILL}|too many {ILL} error responses|status server error \(5"),
    ("pip-network", T, rf"retry\(total=0|retrying \(retry.{{0,4000}}no matching distribution found|"
     rf"(?:^|\n)(?![^\n]{{0,20}}retrying )[^\n]{{0,400}}(?:{TRANSPORT})"),
    ("uv-network", T, r"error sending request for url|failed to (?:fetch|download|unzip).{0,500}"
     r"(?:client error \(connect|timed out|timeout|reading a body|decoding response body)"),
    ("pip-insecure", P, r"is not a trusted or secure host and is being ignored"),
    ("pip-python", P, r"requires? a different python|requires-python|does not satisfy\s+python"),
    ("pip-missing", P, r"no matching distribution found|could not find a version that satisfies|"
     r"not\s+found\s+in\s+the\s+package\s+registry|there\s+is\s+no\s+version\s+of|no\s+usable\s+wheels|"
     r"(?:http error |status client error \()(?:404|410)"),
    ("pip-conflict", P, r"resolutionimpossible|conflicting dependencies|no solution found when resolving"),
    ("pip-hash", P, r"do not match the hashes|hash mismatch for"),
    ("pip-build", P, r"subprocess-exited-with-error|failed building wheel|metadata-generation-failed|"
     r"build backend returned an error|failed-wheel-build|backend-unavailable"),
    ("pip-broke", P, r"dependency resolver does not currently take into account|"
     r"requires? .{0,200}, (?:but you have |which is not installed)|has requirement .{0,200}, but you have |"
     r"requires `.{0,200}, but .{0,80} installed"),
    ("pip-managed", P, r"externally-managed-environment|is externally managed"),
    ("pip-usage", P, r"no such option: |unexpected argument '|could not open requirements file|"
     r"error: file not found: [^\n]{1,200}\.(?:txt|in|toml)|invalid requirement: "),
    # venv: it hides why ensurepip failed.
    ("venv-no-pip", P, r"ensurepip is not\s+available|no module named '?ensurepip"),
    ("venv-killed", L, r"'ensurepip'.{0,200}died with <signals"),
    ("venv-ensurepip", T, r"'ensurepip'.{0,200}returned non-zero exit status"),
    ("venv-folder", P, r"(?:^|\n)error: (?:\[errno (?:2|17|20|36|40)\]|unable to create directory)|winerror 267"),
    *((rule.name, rule.category, rule.pattern) for rule in GPU),
    # Python, and the system under it.
    ("port-taken", E, r"address already in use|errno (98|48|10048)\]|winerror 10048|port [0-9]+ is already in use"),
    ("module-missing", E, r"modulenotfounderror: |no module named "),
    ("login-expired", T, r"please login first to use this node"),
    ("not-allowed", P, r"permission denied|operation not permitted|errno 13\]"),
    ("network", T, r"temporary failure in name resolution|connection (reset|timed out|refused)|network is unreachable"),
)  # fmt: skip


IN_MESSAGES = tuple(one for one in PROCESSES if one.name.partition("-")[0] in ("git", "index", "pip", "uv", "gpu"))
"""The messages that are also looked for in what an unknown exception says: programs put an error output there."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression *pattern*, compiled once; case is ignored, ``.`` spans lines."""
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def match_error_message(text: str | None, patterns: tuple[ErrorPattern, ...] = PROCESSES) -> ErrorPattern | None:
    """The first of *patterns* that *text* matches, or ``None``."""
    if not text:
        return None
    return next((one for one in patterns if compiled(one.pattern).search(text)), None)
