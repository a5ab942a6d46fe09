"""The cause that a rule of classification means, by which its sentences are found. Pure."""

from __future__ import annotations

from events.evidence import Category
from recovery.policies.error_messages import PROCESSES
from recovery.policies.libraries import BY_CLASS

SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
}  # fmt: skip
"""The signals that POSIX numbers, and two that Linux and macOS number alike or nearly so."""

STOPS, CRASHES = (1, 2, 3, 15), (4, 6, 7, 8, 11)

EXCEPTIONS = {
    0xC0000005: "access violation",
    0xC0000017: "no memory",
    0xC000013A: "Ctrl-C",
    0xC00000FD: "stack overflow",
}

BY_STATUS: dict[int, str] = {
    # RFC 9110 section 15, RFC 6585, RFC 4918 (507), RFC 7725 (451), and what CDNs answer for an origin that fails.
    400: "bad-request", 401: "login", 402: "payment", 403: "denied", 404: "not-found", 405: "bad-method",
    406: "no-format", 407: "proxy-login", 408: "too-slow", 409: "contradiction", 410: "gone", 412: "changed",
    413: "too-large", 415: "bad-format", 416: "bad-range", 422: "refused-content", 425: "too-early",
    429: "fewer-requests", 451: "illegal", 500: "server-failed", 501: "cannot-do", 505: "old-http", 507: "server-full",
    509: "bandwidth",
}  # fmt: skip

BY_EXIT_CODE = {126: "cannot-execute", 127: "no-command"}

BY_ERRNO: dict[str, str] = {
    name: cause
    for names, cause in (
        ("ECONNREFUSED", "refused"),
        ("EHOSTDOWN EHOSTUNREACH", "host-unreachable"),
        ("ENETDOWN ENETUNREACH", "network-unreachable"),
        ("EADDRNOTAVAIL", "no-address"),
        ("ECONNABORTED ECONNRESET EPIPE ESHUTDOWN ENOTCONN ENETRESET", "broke-off"),
        ("ETIMEDOUT", "timed-out"),
        ("EAGAIN EINTR EBUSY ETXTBSY", "in-use"),
        ("EIO", "device"),
        ("ESTALE", "drive-lost"),
        ("ENOSPC", "disk-full"),
        ("EDQUOT", "quota"),
        ("EFBIG", "file-too-large"),
        ("EROFS", "read-only"),
        ("EMFILE ENFILE", "files-open"),
        ("ENOMEM ENOBUFS", "memory"),
        ("EADDRINUSE", "port-taken"),
        ("ENOLCK", "lock"),
        ("ENOENT", "not-there"),
        ("ENOTDIR", "no-folder"),
        ("EISDIR", "is-folder"),
        ("EEXIST", "exists"),
        ("ENOTEMPTY", "not-empty"),
        ("EACCES EPERM", "not-allowed"),
        ("ELOOP", "links"),
        ("ENAMETOOLONG", "long-name"),
        ("E2BIG", "long-command"),
        ("EXDEV", "other-disk"),
        ("ENOEXEC", "cannot-execute"),
        ("ENODEV", "no-device"),
        ("EINVAL EBADF", "program"),
    )
    for name in names.split()
}

BY_RULE: dict[str, str] = {
    **{pattern.name: pattern.name for pattern in PROCESSES},
    "unknown error": "unknown",
    "classification is off": "unclassified",
    "classifier": "classifier",
    "retry_on": "retry-on",
    "retry_if_error": "retry-if-error",
    "retry_if": "retry-if",
    "undecodable answer": "undecodable",
    "Permanent": "no-use",
    "Retryable": "may-help",
    "NeedsPerson": "person",
    "certificate": "tool-certificate",
    "pip-network": "index-network",
    "uv-network": "index-network",
    **{
        f"{module}{name}": cause
        for module, names, cause in (
            ("", "FileNotFoundError", "not-there"),
            ("", "FileExistsError", "exists"),
            ("", "IsADirectoryError", "is-folder"),
            ("", "NotADirectoryError", "no-folder"),
            ("", "PermissionError", "not-allowed"),
            ("", "ImportError", "import"),
            ("", "MemoryError", "memory"),
            ("", "RecursionError", "recursion"),
            ("", "NotImplementedError", "not-made"),
            ("", "SystemError", "interpreter"),
            ("", "EOFError", "data-ended"),
            ("", "TimeoutError", "timed-out"),
            ("", "ConnectionRefusedError", "refused"),
            ("", "ConnectionError", "connection-failed"),
            ("", "ArithmeticError AssertionError AttributeError BufferError LookupError NameError", "program"),
            ("", "StopAsyncIteration StopIteration SyntaxError TypeError ValueError", "program"),
            ("events.errors.", "NeedsPerson", "person"),
            ("events.errors.", "Permanent", "no-use"),
            ("events.errors.", "Retryable", "may-help"),
            ("events.errors.", "CallRejectedError", "rejected"),
            ("events.errors.", "JoinedElsewhere", "joined"),
            ("ssl.", "SSLCertVerificationError", "certificate"),
            ("ssl.", "SSLError", "tls-failed"),
            ("socket.", "gaierror", "name-not-found"),
            ("subprocess.", "TimeoutExpired", "timed-out"),
            ("asyncio.exceptions.", "CancelledError", "cancelled"),
            ("concurrent.futures._base.", "CancelledError", "cancelled"),
            *(
                (f"{library}.", names, cause)
                for library in ("httpx", "httpx2")
                for names, cause in (
                    ("ConnectError ConnectTimeout", "not-reached"),
                    ("TransportError", "connection-failed"),
                    ("ProxyError", "proxy-failed"),
                    ("DecodingError", "unreadable"),
                    ("UnsupportedProtocol InvalidURL", "bad-url"),
                    ("TooManyRedirects", "redirected"),
                    ("LocalProtocolError StreamError CookieConflict", "program"),
                )
            ),
            ("aiohttp.client_exceptions.", "ClientConnectorError", "not-reached"),
            ("aiohttp.client_exceptions.", "ClientPayloadError", "transfer-broke-off"),
            ("requests.exceptions.", "ConnectTimeout", "not-reached"),
            ("requests.exceptions.", "InvalidSchema InvalidURL MissingSchema", "bad-url"),
            ("requests.exceptions.", "TooManyRedirects", "redirected"),
            ("urllib3.exceptions.", "ConnectTimeoutError NewConnectionError", "not-reached"),
            ("urllib3.exceptions.", "NameResolutionError", "name-not-found"),
            ("torch.", "OutOfMemoryError cuda.OutOfMemoryError", "gpu-memory"),
        )
        for name in names.split()
    },
    **{f"{module}.{name}": cause for _, module, names, cause in BY_CLASS for name in names.split()},
}

SAYS_LITTLE = (
    "unknown error", "Permanent", "Retryable", "NeedsPerson", "httpx.TransportError", "httpx2.TransportError",
    "events.errors.Permanent", "events.errors.Retryable", "events.errors.NeedsPerson",
)  # fmt: skip
"""The rules about which the name of the exception may say more."""

BY_CLASS_NAME = {
    "TrickleError": "trickle", "StalePartialFileError": "stale-part", "DestinationBusyError": "other-download",
    "UnusableResponseError": "bad-answer", "WrongContentError": "wrong-content", "RefusedError": "refused-file",
    "RefusedForNowError": "refused-now", "AccessError": "access", "NeverFitsError": "never-fits",
    "NoRoomError": "disk-full", "DownloadError": "transfer-broke-off", "EnvironmentVariableError": "no-variable",
    "UnsafeFileError": "unsafe-file", "RepositoryError": "git-folder", "GitMissingError": "git-none",
    "UnusablePlaceError": "git-place", "LockedError": "git-busy", "RepositoryMissingError": "git-missing",
    "RefMissingError": "git-missing", "ChangesError": "git-local-changes", "OccupiedError": "git-occupied",
    "InvalidRequirementsError": "requirements", "UnusualRequirementsError": "requirements-ask",
    "RefusedRequirementsError": "requirements-refused", "BrokenPackagesError": "pip-broke",
    "NotInstalledError": "not-done", "NoInstallerError": "pip-none", "PackageConflictError": "pip-conflict",
    "CutDownloadError": "pip-cut", "PackageBuildError": "pip-build", "VenvError": "venv-folder",
    "LostPackagesError": "venv-lost", "SilentCommandError": "silent", "NotDoneError": "not-done",
    "InvalidRequestError": "bad-call", "PlanError": "plan", "NotAskedForError": "not-asked",
    "StepsUndoneError": "undone", "MissingSecretError": "no-secret", "ServerEndedError": "server-ended",
    "ServerGoneError": "server-gone", "PortTakenError": "port-taken", "AwaitableResultError": "program",
    "JournalError": "journal", "DamagedJournalError": "journal", "ForeignJournalError": "journal",
    "JournalBusyError": "journal", "NewerJournalError": "journal", "NotDurable": "journal",
    "UnreachableError": "cluster", "NotSentError": "cluster", "ClusterError": "cluster",
    "ForbiddenError": "cluster-role",
    "ClusterLimitError": "cluster-limit", "TooLargeError": "cluster-limit", "RemoteCallError": "cluster-call",
    "StaleError": "cluster-changed", "LeaseLostError": "cluster-changed", "ChangeRefusedError": "cluster-changed",
    "UnknownCallError": "cluster-changed", "UnreadableError": "cluster-changed",
    "InvalidGraphError": "graph", "PromptRefusedError": "prompt-refused", "PromptFailedError": "prompt-failed",
    "MissingModelError": "prompt-model", "MissingNodeError": "prompt-node", "PaidNodesError": "prompt-paid",
    "PaidAccountError": "prompt-account", "PaidLoginError": "prompt-login", "OutcomeUnknownError": "prompt-unknown",
    "PromptInterruptedError": "prompt-interrupted", "PromptLostError": "prompt-lost",
    "PromptQuarantinedError": "prompt-quarantined", "OutOfMemoryError": "prompt-memory",
    "MemoryFullError": "prompt-memory", "PoisonedContextError": "prompt-context",
    "BrokenContextError": "prompt-context", "ServerBusyError": "prompt-busy",
    "ServerDownError": "prompt-down", "NoAnswerError": "prompt-no-answer",
}  # fmt: skip
"""The causes of this distribution's own exceptions, by the names of their classes."""

BY_PART_OF_NAME = (("Timeout", "timed-out"), ("Proxy", "proxy-failed"), ("Connect", "connection-failed"))
"""Parts of the names of exceptions, in order, and what they mean."""


REASONS = ("refused", "name-not-found", "tls-failed")
"""The causes of inner exceptions that say why a host was not reached."""


def cause_of(category: Category | None, rule: str, kind: str = "") -> tuple[str, dict[str, str]]:
    """The cause that the *rule* of a failure means, and the details that the rule tells.

    A rule that is not built in means its category, with its name as a detail: it is the user's own.

    Args:
        category: The category of the failure; None if it was not classified.
        rule: The name of the rule that decided.
        kind: The qualified name of the exception's class; if a host was not reached, of the one that caused it.
    """
    if category is None:
        return "unclassified", {}
    if rule in SAYS_LITTLE:
        name = kind.rpartition(".")[2]
        by_part = next((cause for part, cause in BY_PART_OF_NAME if part in name), BY_RULE[rule])
        return BY_CLASS_NAME.get(name, by_part), {}
    if rule in BY_RULE:
        inner = BY_RULE.get(kind.removeprefix("builtins.")) if says_not_why(rule) else None
        return inner if inner in REASONS else BY_RULE[rule], {}
    what, _, value = rule.partition(" ")
    number = _number(value)
    match what:
        case "errno" if value in BY_ERRNO:
            return BY_ERRNO[value], {}
        case "status" if number is not None:
            is_limit = category is Category.RATE_LIMITED and number != 509
            return "fewer-requests" if is_limit else _by_status(number), {"status": value}
        case "code":
            return ("unreadable", {}) if value == "cut-off" else (str(category), {"rule": value})
        case "signal" if number is not None:
            cause = "stopped" if number in STOPS else "crashed" if number in CRASHES else "killed"
            return cause, {"signal": SIGNALS.get(number, rule)}
        case "exception" if number is not None:
            return "crashed", {"signal": EXCEPTIONS.get(number, value)}
        case "exit" if number is not None:
            return BY_EXIT_CODE.get(number, "command-failed"), {"code": str(number)}
    is_own = rule and category is not Category.EXHAUSTED
    return str(category), {"rule": f"rule {rule}" if is_own else rule}


def says_not_why(rule: str) -> bool:
    """Whether *rule* says that a host was not reached, and its exception may have a cause that says why."""
    return BY_RULE.get(rule) == "not-reached"


def _by_status(status: int) -> str:
    if status >= 500:
        return BY_STATUS.get(status, "busy-server")
    return BY_STATUS.get(status, "refused-request" if status >= 400 else "elsewhere")


def _number(text: str) -> int | None:
    """The number of ``status 404``, ``signal 9``, ``exit code 1`` or ``exception 0xc0000005``, after its first word."""
    try:
        return int(text.removeprefix("code "), 0)
    except ValueError:
        return None
