"""Tokens by host family: which one a request gets, and the question for one that is missing or was refused."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from adapters.downloads.families import HOSTS, family_of, origin_of
from adapters.downloads.refusals import AccessError
from recovery.serialization.secret import Secret
from recovery.service import Recovery
from recovery.suggestions import hint


class Found(NamedTuple):
    """The token of a family.

    Args:
        token: The token; "" for none.
        answer: The answer that it was looked for in; None if the question has none.
        reason: Why there is none; "" if none was configured either.
    """

    token: str = ""
    answer: object = None
    reason: str = ""


class Tokens:
    """The tokens of downloads. Each goes to the hosts of its family, and to no other host.

        tokens = Tokens(service, {"huggingface": Secret("env:HF_TOKEN"), "civitai": Secret("file:civitai.token")})
        with tokens.attempt() as headers:
            await download(client, url, path, headers=headers)

    The answer to the question ``token:FAMILY`` counts more than what is given here. Where neither is there, no token is
    sent, as public files need none; a server that wants one has ``download`` raise AccessError with that question.

    Args:
        service: Its questions ask for tokens.
        tokens: Where each token is. Keys are "huggingface" (with the host of ``HF_ENDPOINT``), "civitai", "github",
            "gitlab", or a host, with its port if that is not 443.

    Raises:
        TypeError: A token that is no ``Secret``.
        ValueError: A key that is no family and no host.
    """

    def __init__(self, service: Recovery, tokens: Mapping[str, Secret] | None = None) -> None:
        self._service = service
        self._endpoint = os.environ.get("HF_ENDPOINT")
        self._secrets: dict[str, Secret] = {}
        self._refused: set[str] = set()
        for key, secret in (tokens or {}).items():
            if type(secret) is not Secret:  # the value is not shown: it may be a token
                given = type(secret).__name__
                raise TypeError(
                    f'the token of {key} must be a Secret("env:NAME") or Secret("file:PATH"), not a {given}'
                )
            self._secrets[_family(key)] = secret

    def headers(self, url: str) -> Mapping[str, str]:
        """The header ``Authorization`` for a request to *url*, or none.

        Only https is safe for a token, and http on this computer.
        """
        return _authorization(self._found(url).token)

    @contextmanager
    def attempt(self) -> Iterator[Callable[[str], Mapping[str, str]]]:
        """``headers`` for one attempt, whose AccessError tells the question why the token is missing or was refused.

        An answer that was refused is dropped, and the question is open again. One that came meanwhile is kept.
        """
        looked_up: dict[str, Found] = {}

        def headers(url: str) -> Mapping[str, str]:
            found = looked_up[f"token:{family_of(url, self._endpoint)}"] = self._found(url)
            return _authorization(found.token)

        try:
            yield headers
        except AccessError as error:
            question = "" if error.remedy is None else error.remedy.question
            if (found := looked_up.get(question)) is not None and (reason := found.reason or error.reason):
                error.add_note(reason)
                if not found.reason:
                    self._refused.add(question)
                # That a server refused a token tells more than that none was found for the next attempt.
                if not found.reason or found.answer is not None or question not in self._refused:
                    self._service.calls.reopen(question, reason, refused=found.answer)
            raise

    def _found(self, url: str) -> Found:
        family, origin = family_of(url, self._endpoint), origin_of(url)
        answer = self._service.calls.answered(f"token:{family}") if family else None
        if origin is None or not (origin[0] == "https" or _is_this_computer(origin[1])):
            return Found(answer=answer, reason="no token is sent over http, where others can read it; use https")
        if isinstance(answer, str):
            return _checked(answer, answer)
        if (secret := self._secrets.get(family)) is None:
            return Found()
        try:
            return _checked(secret.reveal(), answer, secret.reference)
        except LookupError as error:
            return Found(reason=str(error.args[0]))
        except (OSError, UnicodeDecodeError) as error:
            why = error.reason if isinstance(error, UnicodeDecodeError) else error.strerror
            return Found(reason=f"{secret.reference} cannot be read: {why}")


def _checked(token: str, answer: object, source: str = "the answer") -> Found:
    """*token* without the blanks around it, unless no header can hold it."""
    token = token.strip()
    if not token:
        return Found(answer=answer, reason=f"{source} is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        return Found(answer=answer, reason=f"{source} holds blanks or characters that are not ASCII, as no token does")
    return Found(token, answer)


def _authorization(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _family(key: str) -> str:
    """The family that *key* names, or one of whose hosts it is. Raises ValueError if it is no host either."""
    family = key if key in HOSTS else family_of(f"https://{key}")
    is_host = family in HOSTS or "." in family or ":" in family or family == "localhost"
    if not is_host or "/" in key or "@" in key:
        raise ValueError(f"tokens: {key!r} is no family of hosts and no host; {hint(key, HOSTS)}")
    return family


def _is_this_computer(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
