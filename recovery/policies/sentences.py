"""What a rule of classification means, in a few plain words: its own ``why``, or a sentence for each built-in rule."""

from __future__ import annotations

from events.evidence import Category
from recovery.policies.libraries import BY_CLASS

UNCLASSIFIED = "an error that was not classified"

BY_STATUS: dict[int, str] = {
    # RFC 9110 section 15, RFC 6585, RFC 4918 (507), RFC 7725 (451), and what CDNs answer for an origin that fails.
    400: "the server cannot read the request",
    401: "a login is needed",
    402: "it must be paid for first",
    403: "the server denies access",
    404: "it does not exist",
    405: "the server does not take such requests",
    406: "the server has no such format",
    407: "the proxy wants a login",
    408: "the server waited too long for the request",
    409: "it contradicts what the server has",
    410: "it is gone for good",
    412: "it has changed on the server",
    413: "it is too large for the server",
    415: "the server does not take this format",
    416: "the server has no such range of bytes",
    422: "the server refuses what the request says",
    425: "the server wants it later",
    429: "the server wants fewer requests",
    451: "a law forbids it",
    500: "the server failed",
    501: "the server cannot do that",
    505: "the server does not speak this version of HTTP",
    507: "the server's disk is full",
    509: "the server's bandwidth is used up",
}

BY_EXIT_CODE = {126: "the command cannot be executed", 127: "there is no such command"}

SIGNALS = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
    11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
}  # fmt: skip
"""The signals that POSIX numbers, and two that Linux and macOS number alike or nearly so."""

EXCEPTIONS = {
    0xC0000005: "access violation",
    0xC0000017: "no memory",
    0xC000013A: "Ctrl-C",
    0xC00000FD: "stack overflow",
}

TIMED_OUT = "it timed out"
REFUSED = "the connection was refused"
BROKE_OFF = "the connection broke off"
UNCONNECTED = "the host was not reached"
UNREADABLE = "the answer cannot be read"
REDIRECTED = "the server redirects without end"
BAD_URL = "the URL is not usable"
MISTAKE = "the program or its input is wrong"
NOT_THERE = "there is no such file or folder"
NOT_ALLOWED = "it is not allowed"
DISK_FULL = "the disk is full"
FILES_OPEN = "too many files are open"
NO_MEMORY = "there is no memory left"
GPU_FULL = "the GPU's memory is full"

BY_RULE: dict[str, str] = {
    "unknown error": "an unknown error",
    "classification is off": UNCLASSIFIED,
    "classifier": "a classifier of the program decided",
    "retry_on": "the setting retry_on decided",
    "retry_if_error": "the setting retry_if_error decided",
    "retry_if": "the result is one to try again",
    "Permanent": "the program says that trying again is no use",
    "Retryable": "the program says that trying again may help",
    "NeedsPerson": "a person must do something first",
    "events.errors.NeedsPerson": "a person must do something first",
    "events.errors.Permanent": "the program says that trying again is no use",
    "events.errors.Retryable": "the program says that trying again may help",
    "events.errors.CallRejectedError": "a call inside it was not allowed to begin",
    "events.errors.JoinedElsewhere": "another process ran an equal call, and recorded no result",
    **{
        f"errno {name}": sentence
        for names, sentence in (
            ("ECONNREFUSED", REFUSED),
            ("EHOSTDOWN EHOSTUNREACH", "the host cannot be reached"),
            ("ENETDOWN ENETUNREACH", "the network cannot be reached"),
            ("EADDRNOTAVAIL", "the address is not available"),
            ("ECONNABORTED ECONNRESET EPIPE ESHUTDOWN ENOTCONN ENETRESET", BROKE_OFF),
            ("ETIMEDOUT", TIMED_OUT),
            ("EAGAIN EINTR EBUSY ETXTBSY", "it is in use at the moment"),
            ("EIO", "the device cannot be read or written"),
            ("ESTALE", "the network drive lost the file"),
            ("ENOSPC", DISK_FULL),
            ("EDQUOT", "the disk quota is used up"),
            ("EFBIG", "the file is too large for the disk"),
            ("EROFS", "the disk is read-only"),
            ("EMFILE ENFILE", FILES_OPEN),
            ("ENOMEM ENOBUFS", NO_MEMORY),
            ("EADDRINUSE", "the port is taken"),
            ("ENOLCK", "the file cannot be locked"),
            ("ENOENT", NOT_THERE),
            ("ENOTDIR", "a part of the path is not a folder"),
            ("EISDIR", "it is a folder"),
            ("EEXIST", "it exists already"),
            ("ENOTEMPTY", "the folder is not empty"),
            ("EACCES EPERM", NOT_ALLOWED),
            ("ELOOP", "the links of the path go in a circle"),
            ("ENAMETOOLONG", "the name is too long"),
            ("E2BIG", "the list of arguments is too long"),
            ("EXDEV", "it lies on another disk"),
            ("ENOEXEC", BY_EXIT_CODE[126]),
            ("ENODEV", "there is no such device"),
            ("EINVAL EBADF", MISTAKE),
        )
        for name in names.split()
    },
    **{
        f"{module}{name}": sentence
        for module, names, sentence in (
            ("", "FileNotFoundError", NOT_THERE),
            ("", "FileExistsError", "it exists already"),
            ("", "IsADirectoryError", "it is a folder"),
            ("", "NotADirectoryError", "a part of the path is not a folder"),
            ("", "PermissionError", NOT_ALLOWED),
            ("", "ImportError", "a module cannot be imported"),
            ("", "MemoryError", NO_MEMORY),
            ("", "RecursionError", "the program calls itself without end"),
            ("", "NotImplementedError", "the program cannot do that"),
            ("", "SystemError", "the interpreter failed"),
            ("", "EOFError", "the data ended too early"),
            ("", "TimeoutError", TIMED_OUT),
            ("", "ConnectionRefusedError", REFUSED),
            ("", "ConnectionError", "the connection failed"),
            ("", "ArithmeticError AssertionError AttributeError BufferError LookupError NameError", MISTAKE),
            ("", "StopAsyncIteration StopIteration SyntaxError TypeError ValueError", MISTAKE),
            ("ssl.", "SSLCertVerificationError", "the certificate is not trusted"),
            ("ssl.", "SSLError", "the encrypted connection failed"),
            ("socket.", "gaierror", "the name of the host was not found"),
            ("subprocess.", "TimeoutExpired", TIMED_OUT),
            ("asyncio.exceptions.", "CancelledError", "it was cancelled"),
            ("concurrent.futures._base.", "CancelledError", "it was cancelled"),
            *(
                (f"{library}.", names, sentence)
                for library in ("httpx", "httpx2")
                for names, sentence in (
                    ("ConnectError ConnectTimeout", UNCONNECTED),
                    ("TransportError", "the connection failed"),
                    ("ProxyError", "the proxy failed"),
                    ("DecodingError", UNREADABLE),
                    ("UnsupportedProtocol InvalidURL", BAD_URL),
                    ("TooManyRedirects", REDIRECTED),
                    ("LocalProtocolError StreamError CookieConflict", MISTAKE),
                )
            ),
            ("aiohttp.client_exceptions.", "ClientConnectorError", UNCONNECTED),
            ("aiohttp.client_exceptions.", "ClientPayloadError", "the transfer broke off"),
            ("requests.exceptions.", "ConnectTimeout", UNCONNECTED),
            ("requests.exceptions.", "InvalidSchema InvalidURL MissingSchema", BAD_URL),
            ("requests.exceptions.", "TooManyRedirects", REDIRECTED),
            ("urllib3.exceptions.", "ConnectTimeoutError NewConnectionError", UNCONNECTED),
            ("urllib3.exceptions.", "NameResolutionError", "the name of the host was not found"),
            ("torch.", "OutOfMemoryError cuda.OutOfMemoryError", GPU_FULL),
        )
        for name in names.split()
    },
    **{f"{module}.{name}": sentence for _, module, names, sentence in BY_CLASS for name in names.split()},
}


BY_CODE: dict[Category, str] = {
    Category.TRANSIENT: "it failed for the moment",
    Category.RATE_LIMITED: "the server wants fewer requests",
    Category.ENVIRONMENT: "the disk or the memory is full",
    Category.AUTH: "a login is needed, or a right",
    Category.PERMANENT: "it is refused",
    Category.CANCELLED: "it was cancelled",
}
"""What the codes of libraries and databases mean."""

SAYS_LITTLE = ("unknown error", "Retryable", "httpx.TransportError", "httpx2.TransportError")
"""The rules whose sentence the name of the exception may better."""

BY_NAME = (
    ("ServerEnded", "the server ended by itself"), ("SilentCommand", "it did nothing for too long"),
    ("Timeout", TIMED_OUT), ("Proxy", "the proxy failed"), ("Connect", "the connection failed"),
)  # fmt: skip
"""Parts of the names of exceptions, in order, and what they mean."""


def sentence_of(category: Category | None, rule: str, why: str = "", kind: str = "") -> str:
    """What a failure means: *why* if the rule has one, otherwise the sentence of the built-in *rule*.

    A rule that is not known is named; it may be the user's own.

    Args:
        category: The category of the failure; None if it was not classified.
        rule: The name of the rule that decided.
        why: What that rule says.
        kind: The qualified name of the exception's class: where the rule says little, it says more.
    """
    if why:
        return why
    if category is None:
        return UNCLASSIFIED
    if rule in SAYS_LITTLE:
        name = kind.rpartition(".")[2]
        return next((sentence for part, sentence in BY_NAME if part in name), BY_RULE[rule])
    if rule in BY_RULE:
        return BY_RULE[rule]
    what, _, value = rule.partition(" ")
    match what:
        case "status" if value.isdigit():
            return f"{_of_status(int(value))} (HTTP {value})"
        case "code" if category in BY_CODE:
            return f"{UNREADABLE if value == 'cut-off' else BY_CODE[category]} ({value})"
        case "signal" if value.isdigit():
            return f"the process was killed ({SIGNALS.get(int(value), rule)})"
        case "exception" if value.startswith("0x"):
            return f"the process crashed ({EXCEPTIONS.get(int(value, 16), value)})"
        case "exit" if (code := value.removeprefix("code ")).lstrip("-").isdigit():
            return f"{BY_EXIT_CODE.get(int(code), 'the command failed')} (exit code {code})"
    if category is Category.EXHAUSTED:
        return rule
    return f"the rule {rule} decided" if rule else f"it is {category}"


def _of_status(status: int) -> str:
    if status >= 500:
        return BY_STATUS.get(status, "the server is ill or busy")
    return BY_STATUS.get(status, "the server refuses the request" if status >= 400 else "the server sends it elsewhere")
