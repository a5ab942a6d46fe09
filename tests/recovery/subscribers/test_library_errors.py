"""What the errors of libraries mean, by their shape; ``tests/evidence`` asks the libraries themselves."""

from __future__ import annotations

import enum
import http
import json
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.memory import MemoryStore
from events.evidence import Category
from recovery import Recovery, classify
from recovery.subscribers.evidence_extraction import extract_evidence

TRANSIENT, UNREACHABLE, RATE_LIMITED, ENVIRONMENT, AUTH, LOST, PERMANENT, EXHAUSTED, CANCELLED = Category
RESET = str(int(time.time()) + 3000)


class StatusCode(enum.Enum):
    """As ``grpc.StatusCode``."""

    UNAVAILABLE = (14, "unavailable")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    ABORTED = (10, "aborted")
    INVALID_ARGUMENT = (3, "invalid argument")
    NOT_FOUND = (5, "not found")
    PERMISSION_DENIED = (7, "permission denied")
    UNAUTHENTICATED = (16, "unauthenticated")
    UNIMPLEMENTED = (12, "unimplemented")


def raised(name: str, *bases: type[Exception], text: str = "no", **attributes: Any) -> Exception:
    """An error of a class that is named as a library would name it, with these attributes."""
    module, _, last = name.rpartition(".")
    error: Exception = type(last, bases or (Exception,), {"__module__": module})(text)
    error.__dict__.update(attributes)
    return error


def starlette(status: int, headers: dict[str, str] | None = None) -> Exception:
    return raised("starlette.exceptions.HTTPException", status_code=status, detail="", headers=headers)


def werkzeug(status: int, **attributes: Any) -> Exception:
    base = type("HTTPException", (Exception,), {"__module__": "werkzeug.exceptions", "code": None})
    kind = type("Raised", (base,), {"__module__": "werkzeug.exceptions", "code": status})
    error: Exception = kind()
    error.__dict__.update(response=None, **attributes)
    return error


def botocore(code: str, status: int | None = None, **headers: str) -> Exception:
    response: dict[str, Any] = {"Error": {"Code": code, "Message": "no"}}
    if status is not None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response["ResponseMetadata"] = {"HTTPStatusCode": status, "HTTPHeaders": named}
    return raised("botocore.exceptions.ClientError", response=response, operation_name="Get")


def grpc(code: StatusCode, *metadata: tuple[str, str]) -> Exception:
    return raised("grpc.aio._call.AioRpcError", code=lambda: code, details=str, trailing_metadata=lambda: metadata)


def google(status: int, code: StatusCode | None = None, **attributes: Any) -> Exception:
    base = type("GoogleAPICallError", (Exception,), {"__module__": "google.api_core.exceptions", "code": None})
    body = {"__module__": "google.api_core.exceptions", "code": http.HTTPStatus(status), "grpc_status_code": code}
    error: Exception = type("Raised", (base,), body)()
    error.__dict__.update(attributes)
    return error


def elasticsearch(status: int, **headers: str) -> Exception:
    meta = SimpleNamespace(status=status, headers=headers)
    return raised("elasticsearch.ApiError", meta=meta, body={}, errors=())


def github(status: int, headers: dict[str, str], text: str = "no") -> Exception:
    return raised("github.GithubException.GithubException", status=status, headers=headers, text=text)


def openai(status: int, code: str | None = None, **headers: str) -> Exception:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = SimpleNamespace(status_code=status, headers=named)
    return raised("openai.APIStatusError", response=response, status_code=status, code=code)


def docker(status: int) -> Exception:
    return raised("docker.errors.APIError", OSError, response=SimpleNamespace(status_code=status, headers={}))


def psycopg(state: str | None, base: str = "OperationalError") -> Exception:
    return raised("psycopg.errors.Raised", type(raised(f"psycopg.{base}")), sqlstate=state)


def redis(name: str, base: str = "RedisError") -> Exception:
    return raised(f"redis.exceptions.{name}", type(raised(f"redis.exceptions.{base}")), status_code=None)


def locked() -> Exception:
    with sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True) as one:
        one.execute("CREATE TABLE t (x UNIQUE)")
        one.execute("BEGIN IMMEDIATE")
        other = sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True, timeout=0)
        error = sqlite_error(other, "INSERT INTO t VALUES (1)")
        one.rollback()
    one.close()
    return error


def sqlite_error(connection: sqlite3.Connection, *statements: str) -> Exception:
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError


def in_memory(*statements: str) -> Exception:
    return sqlite_error(sqlite3.connect(":memory:"), *statements)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def not_json(text: str) -> Exception:
    try:
        json.loads(text)
    except ValueError as error:
        return error
    raise AssertionError


def exited(script: str) -> Exception:
    try:
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        return error
    raise AssertionError


RETRY_INFO = SimpleNamespace(retry_delay=SimpleNamespace(seconds=3, nanos=500_000_000))
"""As ``google.rpc.error_details_pb2.RetryInfo``."""

PUSHBACK = ("grpc-retry-pushback-ms", "2500")
MEANINGS: list[tuple[Exception, Category]] = [
    # Starlette, FastAPI; werkzeug, Flask; their kind: a status on the error itself.
    *((starlette(status), PERMANENT) for status in (400, 404, 409, 422)),
    *((starlette(status), TRANSIENT) for status in (408, 500, 503)),
    (starlette(401), AUTH),
    (starlette(429), RATE_LIMITED),
    *((werkzeug(status), PERMANENT) for status in (400, 404, 410)),
    (werkzeug(503), TRANSIENT),
    (raised("kubernetes.client.exceptions.ApiException", status=404, headers=None, body=""), PERMANENT),
    (raised("twilio.base.exceptions.TwilioRestException", status=400, code=20001), PERMANENT),
    (raised("app.ApiError", code=404), PERMANENT),
    (raised("app.ApiError", http_status=404), PERMANENT),
    (raised("googleapiclient.errors.HttpError", resp=SimpleNamespace(status=404), content=b""), PERMANENT),
    (raised("minio.error.S3Error", code="SlowDown", response=SimpleNamespace(status=503, headers={})), RATE_LIMITED),
    # What is no status: an exit status, the code of a parser, the code of a closed WebSocket, an answer that succeeded.
    (raised("git.exc.GitCommandError", status=128, stderr="fatal: early EOF"), TRANSIENT),
    (raised("aiohttp.http_exceptions.BadHttpMessage", code=400, headers=None), TRANSIENT),
    (raised("aiohttp.client_exceptions.ClientResponseError", status=400, headers=None), TRANSIENT),
    (raised("starlette.exceptions.WebSocketException", code=1008), TRANSIENT),
    (raised("aiohttp.client_exceptions.ContentTypeError", status=200, headers={}), TRANSIENT),
    # Celery.
    (raised("celery.exceptions.MaxRetriesExceededError"), PERMANENT),
    # botocore.
    *((botocore(code, 400), RATE_LIMITED) for code in ("Throttling", "ThrottlingException", "RequestLimitExceeded")),
    (botocore("SlowDown", 503), RATE_LIMITED),
    (botocore("SlowDown"), RATE_LIMITED),
    (botocore("RequestTimeout", 400), TRANSIENT),
    (botocore("InternalError", 500), TRANSIENT),
    (botocore("NoSuchKey", 404), PERMANENT),
    (botocore("404", 404), PERMANENT),
    (botocore("NoSuchKey"), PERMANENT),
    (botocore("ExpiredToken", 400), AUTH),
    (botocore("AccessDenied", 403), AUTH),
    (raised("botocore.exceptions.EndpointConnectionError"), UNREACHABLE),
    (raised("botocore.exceptions.NoCredentialsError"), AUTH),
    (raised("botocore.exceptions.ParamValidationError"), PERMANENT),
    # gRPC, and Google's clients over it.
    *((grpc(code), TRANSIENT) for code in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.ABORTED)),
    (grpc(StatusCode.RESOURCE_EXHAUSTED), RATE_LIMITED),
    *((grpc(getattr(StatusCode, name)), PERMANENT) for name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")),
    *((grpc(getattr(StatusCode, name)), AUTH) for name in ("PERMISSION_DENIED", "UNAUTHENTICATED")),
    (google(409, StatusCode.ABORTED), TRANSIENT),
    (google(429, StatusCode.RESOURCE_EXHAUSTED), RATE_LIMITED),
    (google(400), PERMANENT),
    (google(404), PERMANENT),
    (google(503), TRANSIENT),
    (raised("google.genai.errors.ClientError", code=429, status="RESOURCE_EXHAUSTED"), RATE_LIMITED),
    (raised("grpclib.exceptions.GRPCError", status=StatusCode.NOT_FOUND), PERMANENT),
    # Elasticsearch, GitHub, OpenAI, docker.
    (elasticsearch(404), PERMANENT),
    (elasticsearch(503), TRANSIENT),
    (raised("elastic_transport.ConnectionError", errors=(ConnectionRefusedError(111, "no"),)), UNREACHABLE),
    (github(404, {}), PERMANENT),
    (github(403, {}), AUTH),
    (github(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": RESET}), RATE_LIMITED),
    (github(403, {"x-ratelimit-remaining": "55", "x-ratelimit-reset": RESET}), AUTH),
    (github(403, {"retry-after": "60"}), RATE_LIMITED),
    (github(403, {}, "403 You have exceeded a secondary rate limit"), RATE_LIMITED),
    (openai(404), PERMANENT),
    (openai(429), RATE_LIMITED),
    (openai(429, "insufficient_quota"), AUTH),
    (openai(409, x_should_retry="true"), TRANSIENT),
    (openai(429, x_should_retry="true"), RATE_LIMITED),
    (openai(500, x_should_retry="false"), PERMANENT),
    (docker(404), PERMANENT),
    (docker(409), PERMANENT),
    (docker(500), TRANSIENT),
    (raised("docker.errors.ContainerError", exit_status=137, stderr=b""), LOST),
    (raised("docker.errors.ContainerError", exit_status=127, stderr=b"sh: x: not found"), PERMANENT),
    (raised("docker.errors.InvalidVersion"), PERMANENT),
    # Databases.
    *((psycopg(state), TRANSIENT) for state in ("08006", "40001", "53300", "55P03", "57014", "57P01", "25006")),
    *((psycopg(state), PERMANENT) for state in ("22012", "23505", "42P01", "0A000", "3D000")),
    (psycopg("28P01"), AUTH),
    (psycopg(None), TRANSIENT),
    (psycopg(None, "ProgrammingError"), PERMANENT),
    (raised("psycopg2.errors.Raised", pgcode="40P01"), TRANSIENT),
    (caused(raised("sqlalchemy.exc.OperationalError", code="e3q8"), psycopg("40001")), TRANSIENT),
    (locked(), TRANSIENT),
    (in_memory("PRAGMA no", "CREATE TABLE t (x UNIQUE)", "INSERT INTO t VALUES (1), (1)"), PERMANENT),
    (in_memory("SELECT * FROM missing"), PERMANENT),
    (sqlite_error(sqlite3.connect(":memory:"), "PRAGMA max_page_count = 1", "CREATE TABLE t (x)"), ENVIRONMENT),
    (raised("sqlite3.OperationalError", sqlite_errorname="SQLITE_BUSY_SNAPSHOT"), TRANSIENT),
    (raised("sqlite3.OperationalError", sqlite_errorname="SQLITE_IOERR_SHORT_READ"), TRANSIENT),
    *((redis(name), TRANSIENT) for name in ("ConnectionError", "TimeoutError", "WatchError")),
    (redis("BusyLoadingError", "ConnectionError"), TRANSIENT),
    (redis("AuthenticationError", "ConnectionError"), AUTH),
    *((redis(name, "ResponseError"), TRANSIENT) for name in ("ReadOnlyError", "TryAgainError", "ClusterDownError")),
    (redis("NoPermissionError", "ResponseError"), AUTH),
    (redis("OutOfMemoryError", "ResponseError"), ENVIRONMENT),
    (redis("ResponseError"), PERMANENT),
    (redis("NoScriptError", "ResponseError"), PERMANENT),
    # SSH, processes, Hugging Face, answers.
    (raised("paramiko.ssh_exception.AuthenticationException"), AUTH),
    (raised("paramiko.ssh_exception.SSHException", text="Error reading SSH protocol banner"), TRANSIENT),
    (raised("paramiko.ssh_exception.BadHostKeyException"), PERMANENT),
    (raised("paramiko.ssh_exception.NoValidConnectionsError", OSError, errors={}), UNREACHABLE),
    (raised("paramiko.ssh_exception.ChannelException", code=2), TRANSIENT),
    (exited("import sys; sys.exit('fatal: Remote branch x not found in upstream origin')"), PERMANENT),
    (exited("import os; os.kill(os.getpid(), 9)"), LOST),
    (raised("huggingface_hub.errors.LocalEntryNotFoundError", FileNotFoundError), PERMANENT),
    (caused(raised("huggingface_hub.errors.LocalEntryNotFoundError", FileNotFoundError), TimeoutError()), TRANSIENT),
    (not_json('{"a": [1, 2'), TRANSIENT),
    (not_json('{"a": "b'), TRANSIENT),
    (not_json("<html>"), PERMANENT),
    (not_json('{"a": b, "c": 1}'), PERMANENT),
    (raised("requests.exceptions.JSONDecodeError", ValueError), TRANSIENT),
]  # fmt: skip


def labelled(error: Any) -> str:
    if not isinstance(error, Exception):
        return ""
    told = {name: value for name, value in vars(error).items() if isinstance(value, str | int)}
    return f"{type(error).__module__}.{type(error).__name__} {extract_evidence(error).code or told or error}"[:90]


@pytest.mark.parametrize(("error", "category"), MEANINGS, ids=labelled)
def test_an_error_of_a_library_means_what_the_library_says(error: Exception, category: Category) -> None:
    assert classify(error).category is category


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (starlette(429, {"Retry-After": "7"}), 7.0),
        (werkzeug(429, retry_after=7), 7.0),
        (werkzeug(503, retry_after=timedelta(minutes=1)), 60.0),
        (raised("discord.errors.RateLimited", retry_after=1.25), 1.25),
        (botocore("SlowDown", 503, retry_after="3"), 3.0),
        (grpc(StatusCode.UNAVAILABLE, PUSHBACK), 2.5),
        (elasticsearch(429, **{"Retry-After": "9"}), 9.0),
        (openai(429, retry_after_ms="2500"), 2.5),
        (github(403, {"retry-after": "60"}), 60.0),
        (google(429, details=[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]), 34.07),
        (google(503, details=[SimpleNamespace(), RETRY_INFO]), 3.5),
        (raised("google.genai.errors.ClientError", details={"error": {"details": [{"retryDelay": "3s"}]}}), 3.0),
        (raised("app.Error", status=429, headers=[(b"retry-after", b"5")]), 5.0),
        (raised("app.Error", response=SimpleNamespace(status_code=429, headers={"RETRY-AFTER": "5"})), 5.0),
        (caused(raised("app.Error"), openai(503, retry_after="4")), 4.0),
    ],
    ids=labelled,
)  # fmt: skip
def test_a_library_passes_on_how_long_the_server_asks_to_wait(error: Exception, seconds: float) -> None:
    assert classify(error).retry_after == seconds


def test_a_moment_to_come_back_at_is_counted_from_now() -> None:
    asked = classify(werkzeug(429, retry_after=datetime.now(UTC) + timedelta(seconds=60))).retry_after
    assert asked is not None
    assert 30.0 < asked <= 60.0


def test_a_text_that_is_no_known_code_is_not_kept() -> None:
    assert extract_evidence(raised("oauth.OAuthError", code="4/0AX4XfWh-secret")).code is None


def test_calls_that_ask_for_what_is_not_there_do_not_stop_the_others() -> None:
    runs = []

    def page(number: int) -> int:
        runs.append(number)
        if number < 5:
            raise starlette(404)
        return number

    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable("page", initial_delay=0.0)(page)
        for number in range(5):
            with pytest.raises(Exception, match="no"):
                call(number)
        assert call(5) == 5
    assert runs == [0, 1, 2, 3, 4, 5]
