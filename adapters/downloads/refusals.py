"""What a refused download means, read from the status, the headers and the body of its response. Pure.

A refusal that a person can heal bears a remedy with a question of a stable name: ``token:huggingface``,
``token:civitai``, ``token:HOST``, ``licence:org/repo``, ``purchase:civitai/VERSION``. Its message and its remedy name
the URL without user, query and fragment, which may hold secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from adapters.downloads.families import family_of, origin_of
from adapters.downloads.partial_file import DownloadError
from events.errors import NeedsPerson, Permanent, Retryable
from events.evidence import Remedy
from recovery.policies.pacing import HEADERS, asked_to_wait
from recovery.redact import brief

MOST_BODY = 64 * 1024
"""Bytes of a refusal that are read."""
MOST_SAID = 200
"""Characters of what a server said that a message holds."""
CHALLENGE_PAUSE = 60.0
"""Seconds after which a host is asked again that wanted proof of a browser."""

LOGIN_PATHS = frozenset({"login", "log-in", "signin", "sign-in", "sign_in"})
"""Last parts of the path of a login page."""
REASONS = frozenset({"download-auth", "early-access"})
"""Values of the parameter ``reason`` with which civitai redirects what it refuses."""

OF_REPOSITORY = re.compile(
    r"/(?P<repo>(?:(?:datasets|spaces)/)?[^/]+(?:/[^/]+)?)/(?:resolve|raw|blob)/(?P<revision>[^/]+)/(?P<file>.+)"
)
OF_VERSION = re.compile(r"/(?:download/models|model-versions)/([0-9]{1,18})")
EARLY_ACCESS = re.compile(r"early.?access|purchase|\bbuzz\b")
NO_DOWNLOADS = re.compile(r"disabled downloads|downloads?[ -](?:is |are |has been |have been )?disabled")

PAGES_OF_TOKENS = {
    "huggingface": "https://huggingface.co/settings/tokens",
    "civitai": "https://civitai.com/user/account",
    "github": "https://github.com/settings/tokens",
    "gitlab": "https://gitlab.com/-/user_settings/personal_access_tokens",
}
"""Where a person makes a token."""


class AccessError(DownloadError, NeedsPerson):
    """The server wants a token, a licence or a purchase first.

    Args:
        message: What is refused, and what to do.
        remedy: The question that a person answers once it is done.
        reason: Why the token that was sent is not enough; "" if none was sent, or if more than a token is missing.
    """

    def __init__(self, message: str, *, remedy: Remedy, reason: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason


class RefusedError(DownloadError, Permanent):
    """The server will never give this file: there is none, its authors do not allow it, or access is disabled."""


class RefusedForNowError(DownloadError, Retryable):
    """The server refused this attempt, as it does where a signed link is too old. Another attempt may be let pass."""


class Refusal(NamedTuple):
    """A response that is no file.

    Args:
        status: Its HTTP status.
        said: What the server said, in one line, redacted.
        code: Its header ``X-Error-Code``.
        what: The URL that was asked for, without what may be secret.
        path: The path of that URL.
        family: Where it leads (``family_of``).
        has_token: Whether a token was sent.
    """

    status: int
    said: str
    code: str
    what: str
    path: str
    family: str
    has_token: bool

    @property
    def answer(self) -> str:
        """The status, and what the server said."""
        return f"{self.status}: {self.said}" if self.said else str(self.status)


def refused(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    url: str,
    asked: str,
    has_token: bool = False,
    endpoint: str | None = None,
) -> DownloadError | None:
    """A better error than the bare status; None where the response does not tell more.

    Args:
        status: Neither 200, 206 nor 416; of a redirect to a login page, that of the redirect.
        headers: By name in lower case.
        body: At most its first ``MOST_BODY`` bytes.
        url: What gave the response, after redirects; the login page of a redirect to one.
        asked: What was asked for, before redirects.
        has_token: Whether the request that got the response had the header ``Authorization``. A parameter ``token`` in
            *asked* is a token as well.
        endpoint: The endpoint of Hugging Face, where it is another than its own.
    """
    parts = urlsplit(asked)
    what = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    family, code = family_of(asked, endpoint), headers.get("x-error-code", "")
    said = _said(headers, body)
    has_token = has_token or "token" in parse_qs(parts.query)
    refusal = Refusal(status, said, code, what, parts.path, family, has_token)
    if is_login(url):
        if "early-access" in url:
            return _purchase(refusal)
        return _token(refusal._replace(said="it led to the login page"))
    if status < 400 or status in (408, 425, 429) or status >= 500:
        return None
    if status == 403 and asked_to_wait({name: headers[name] for name in HEADERS if name in headers}, status, 0.0):
        return None  # a rate limit
    if headers.get("cf-mitigated") == "challenge":
        problem = f"{what}: the host wants proof that a browser asks, which no token replaces ({status})"
        return RefusedForNowError(f"{problem}; asking again in {CHALLENGE_PAUSE:.0f} s", after=CHALLENGE_PAUSE)
    if origin_of(url) != origin_of(asked) and family_of(url, endpoint) != family:
        if status not in (401, 403):
            return None
        host = family_of(url, endpoint)
        problem = f"{what}: {host}, where it led, refused the signed link ({refusal.answer})"
        return RefusedForNowError(f"{problem}; asking for another link")
    if status == 403 and parts.query and "expired" in said.lower():
        return _never(refusal, "the signed link has expired; ask its owner for a new one")
    if family == "huggingface" or code in ("GatedRepo", "RepoNotFound", "EntryNotFound", "RevisionNotFound"):
        return _by_huggingface(refusal, endpoint)
    if family == "civitai":
        return _by_civitai(refusal, body.decode("utf-8", "replace").lower())
    if status == 401 and not headers.get("www-authenticate", "").lower().startswith("basic"):
        return _token(refusal)
    return None


def is_login(url: str) -> bool:
    """Whether a redirect to *url* refuses the file: it leads to a login page, or to where early access is sold."""
    parts = urlsplit(url)
    is_page = parts.path.rstrip("/").rpartition("/")[2].lower() in LOGIN_PATHS
    return is_page or not REASONS.isdisjoint(parse_qs(parts.query).get("reason", ()))


def _token(refusal: Refusal, *, hint: str = "", link: str = "") -> AccessError:
    """The error for a token that is missing, or that was refused."""
    family = refusal.family
    remedy = Remedy(
        f"Give a token for {family}{hint}.",
        link=link or PAGES_OF_TOKENS.get(family, ""),
        question=f"token:{family}",
        kind="secret",
    )
    if refusal.has_token:
        reason = f"the token was refused: {refusal.answer}"
        return AccessError(f"{refusal.what}: {reason}; give another one{hint}", remedy=remedy, reason=reason)
    problem = f"{refusal.what} needs a token of {family} ({refusal.answer}); give one{hint}"
    return AccessError(problem, remedy=remedy)


def _purchase(refusal: Refusal) -> AccessError:
    """The error for early access, and for what the account of the token may not download."""
    version = OF_VERSION.search(refusal.path)
    page = f"https://civitai.com/model-versions/{version[1]}" if version else refusal.what
    remedy = Remedy(
        "Buy early access, or ask for access, with the account of the token.",
        link=page,
        question=f"purchase:civitai/{version[1] if version else refusal.path.strip('/')}",
    )
    problem = f"{refusal.what} is for those with early access ({refusal.answer})"
    return AccessError(f"{problem}; get access at {page}", remedy=remedy)


def _never(refusal: Refusal, problem: str) -> RefusedError:
    return RefusedError(f"{refusal.what}: {problem} ({refusal.answer})")


def _by_huggingface(refusal: Refusal, endpoint: str | None) -> DownloadError | None:
    """What Hugging Face, or a mirror with its protocol, refuses.

    Source: https://huggingface.co/docs/hub/models-gated, ``hf_raise_for_status`` of huggingface_hub.
    """
    home = (endpoint or "https://huggingface.co").rstrip("/")
    path = refusal.path.removeprefix(urlsplit(home).path)
    found = OF_REPOSITORY.fullmatch(path)
    repo, revision = (unquote(found["repo"]), unquote(found["revision"])) if found else (path.strip("/"), "")
    page, lower = f"{home}/{repo}", refusal.said.lower()
    if "access to this resource is disabled" in lower:
        return _never(refusal, f"access to {repo} is disabled")
    match refusal.code:
        case "EntryNotFound":
            return _never(refusal, f"there is no such file in {repo}{revision and f' at {revision}'}; look at {page}")
        case "RevisionNotFound":
            return _never(refusal, f"{repo} has no revision {revision}")
        case "RepoNotFound" if refusal.has_token or refusal.status == 404:
            return _never(refusal, f"there is no repository {repo}, or the account of the token does not see it")
        case "RepoNotFound":
            return _token(refusal, hint=f", if {repo} is private and no misspelling")
        case "GatedRepo" if "reject" in lower:
            return _never(refusal, f"the authors of {repo} have rejected the request for access")
        case "GatedRepo" if not refusal.has_token:
            return _token(refusal, hint=f", of an account that has accepted the licence at {page}", link=page)
        case "GatedRepo" if refusal.status != 401 and "fine-grained" not in lower:
            return _licence(refusal, repo, page)
    if refusal.status in (401, 403):
        return _token(refusal, hint=" that may read gated repositories" if "fine-grained" in lower else "")
    return _never(refusal, "the server refused it") if refusal.said and refusal.status != 404 else None


def _licence(refusal: Refusal, repo: str, page: str) -> AccessError:
    is_asked = "await" in refusal.said.lower() or "pending" in refusal.said.lower()
    does = "Answer once its authors have granted access to" if is_asked else "Accept the licence of"
    remedy = Remedy(f"{does} {repo}.", link=page, question=f"licence:{repo}")
    state = "waits for its authors to grant access" if is_asked else "has a licence that is not accepted yet"
    problem = f"{refusal.what}: {repo} {state} ({refusal.answer})"
    return AccessError(f"{problem}; see {page}", remedy=remedy)


def _by_civitai(refusal: Refusal, body: str) -> DownloadError | None:
    """What civitai refuses. *body* is in lower case.

    A 401 means that there is no session, a 403 that the account has no access.
    """
    if NO_DOWNLOADS.search(body):
        return _never(refusal, "its creator has disabled downloads")
    if refusal.status == 402 or (refusal.status in (401, 403) and EARLY_ACCESS.search(body)):
        return _purchase(refusal)
    if refusal.status == 401 or (refusal.status == 403 and not refusal.has_token):
        return _token(refusal)
    if refusal.status == 403:
        return _purchase(refusal)
    return _never(refusal, "the server refused it") if refusal.said else None


def _said(headers: Mapping[str, str], body: bytes) -> str:
    """What the server said: its header ``X-Error-Message``, or a text in the body that is no page."""
    said = headers.get("x-error-message", "")
    if not said:
        try:
            said = _message(msgspec.json.decode(body))
        except (msgspec.DecodeError, RecursionError):
            text = body.decode("utf-8", "replace").strip()
            xml = re.search(r"<Message>([^<]+)</Message>", text)
            said = xml[1] if xml else "" if text.startswith("<") else text.partition("\n")[0]
    return brief(said.strip(), MOST_SAID).rstrip(".")


def _message(value: object) -> str:
    """The longest text under the names by which services tell an error in JSON."""
    if isinstance(value, list):
        return _message(value[0]) if value else ""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    texts = (_message(value.get(name)) for name in ("message", "error", "errors", "detail"))
    return max(texts, key=len, default="")
