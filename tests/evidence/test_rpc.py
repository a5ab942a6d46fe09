"""What gRPC and Google's clients over it raise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import google.api_core.exceptions
import grpc
import pytest

from events.evidence import Category
from recovery import classify
from tests.evidence.loopback import closed_port

METHOD = "/test.Service/Call"


@contextmanager
def server(code: grpc.StatusCode, metadata: tuple[tuple[str, str], ...] = ()) -> Iterator[str]:
    """The address of a server that ends each call with *code*."""

    def call(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(metadata)
        context.abort(code, "no")
        return b""

    serving = grpc.server(futures.ThreadPoolExecutor(1))
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", handlers),))
    port = serving.add_insecure_port("127.0.0.1:0")
    serving.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        serving.stop(None).wait()


def ask(address: str) -> Exception:
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(METHOD)(b"", timeout=5)
        except grpc.RpcError as error:
            return error
    raise AssertionError


def ask_async(address: str) -> Exception:
    async def call() -> Exception:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                await channel.unary_unary(METHOD)(b"", timeout=5)
            except grpc.RpcError as error:
                return error
        raise AssertionError

    return asyncio.run(call())


def ask_google(address: str) -> Exception:
    return google.api_core.exceptions.from_grpc_error(ask(address))


@pytest.mark.parametrize("ask", [ask, ask_async, ask_google])
@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("UNAVAILABLE", Category.TRANSIENT),
        ("DEADLINE_EXCEEDED", Category.TRANSIENT),
        ("ABORTED", Category.TRANSIENT),
        ("INTERNAL", Category.TRANSIENT),
        ("RESOURCE_EXHAUSTED", Category.RATE_LIMITED),
        ("INVALID_ARGUMENT", Category.PERMANENT),
        ("NOT_FOUND", Category.PERMANENT),
        ("FAILED_PRECONDITION", Category.PERMANENT),
        ("UNIMPLEMENTED", Category.PERMANENT),
        ("PERMISSION_DENIED", Category.AUTH),
        ("UNAUTHENTICATED", Category.AUTH),
    ],
)
def test_a_status_code_decides(ask: Callable[[str], Exception], name: str, category: Category) -> None:
    with server(grpc.StatusCode[name]) as address:
        assert classify(ask(address)).category is category


@pytest.mark.parametrize("ask", [ask, ask_async])
def test_a_servers_pushback_is_kept_to(ask: Callable[[str], Exception]) -> None:
    with server(grpc.StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "2500"),)) as address:
        assert classify(ask(address)).retry_after == 2.5


@pytest.mark.parametrize("ask", [ask, ask_async, ask_google])
def test_a_server_that_is_not_there_is_transient(ask: Callable[[str], Exception]) -> None:
    assert classify(ask(f"127.0.0.1:{closed_port()}")).category is Category.TRANSIENT


def test_the_details_of_a_google_error_say_how_long_to_wait() -> None:
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

    details: list[Any] = [ErrorInfo(reason="x"), RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000))]
    assert classify(google.api_core.exceptions.TooManyRequests("no", details=details)).retry_after == 3.5
