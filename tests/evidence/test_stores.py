"""What the clients of PostgreSQL, Redis and SSH raise."""

from __future__ import annotations

import socket
import threading
from typing import Any

import paramiko
import psycopg
import psycopg.errors
import pytest
import redis
import redis.backoff
import redis.retry

from events.evidence import Category
from recovery import classify
from tests.evidence.loopback import closed_port, tcp_server


@pytest.mark.parametrize(
    ("states", "category"),
    [
        ("08006 40001 40P01 53300 55P03 57014 57P01 57P03 25006", Category.TRANSIENT),
        ("22012 23505 23503 42P01 42601 0A000 3D000", Category.PERMANENT),
        ("28000 28P01", Category.AUTH),
    ],
)
def test_the_state_of_a_postgres_error_decides(states: str, category: Category) -> None:
    assert {state: classify(psycopg.errors.lookup(state)("no")).category for state in states.split()} == dict.fromkeys(
        states.split(), category
    )


def test_a_postgres_that_is_not_there_is_retried() -> None:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(f"host=127.0.0.1 port={closed_port()} user=a dbname=b connect_timeout=5")
    assert classify(caught.value).recoverability == "retry"


def test_a_postgres_that_hangs_up_is_retried() -> None:
    with tcp_server(lambda connection: None) as port, pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(f"host=127.0.0.1 port={port} user=a dbname=b connect_timeout=5")
    assert classify(caught.value).recoverability == "retry"


def ask_redis(port: int) -> Exception:
    once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    with redis.Redis(port=port, retry=once, socket_timeout=5, protocol=2) as client:
        try:
            client.get("key")
        except redis.RedisError as error:
            return error
    raise AssertionError


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("LOADING Redis is loading the dataset in memory", Category.TRANSIENT),
        ("READONLY You can't write against a read only replica.", Category.TRANSIENT),
        ("CLUSTERDOWN The cluster is down", Category.TRANSIENT),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Category.TRANSIENT),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Category.TRANSIENT),
        ("NOAUTH Authentication required.", Category.AUTH),
        ("WRONGPASS invalid username-password pair or user is disabled.", Category.AUTH),
        ("NOPERM this user has no permissions to run the 'get' command", Category.AUTH),
        ("OOM command not allowed when used memory > 'maxmemory'.", Category.ENVIRONMENT),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Category.PERMANENT),
        ("ERR unknown command 'GETT'", Category.PERMANENT),
    ],
)
def test_the_word_with_which_redis_refuses_decides(line: str, category: Category) -> None:
    def serve(connection: socket.socket) -> None:
        while request := connection.recv(4096):
            is_greeting = b"CLIENT" in request
            connection.sendall(b"+OK\r\n" * request.count(b"CLIENT") if is_greeting else f"-{line}\r\n".encode())

    with tcp_server(serve) as port:
        assert classify(ask_redis(port)).category is category


def test_a_redis_that_is_not_there_or_hangs_up_is_retried() -> None:
    assert classify(ask_redis(closed_port())).recoverability == "retry"
    with tcp_server(lambda connection: None) as port:
        assert classify(ask_redis(port)).recoverability == "retry"


class Refusing(paramiko.ServerInterface):
    """Lets no user in."""

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.AUTH_FAILED  # type: ignore[attr-defined, no-any-return]


def ask_ssh(port: int) -> Exception:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.MissingHostKeyPolicy())
    about: Any = {"look_for_keys": False, "allow_agent": False, "banner_timeout": 5, "timeout": 5}
    try:
        client.connect("127.0.0.1", port, username="a", password="b", **about)
    except Exception as error:
        return error
    finally:
        client.close()
    raise AssertionError


def test_a_password_that_ssh_refuses_needs_a_person() -> None:
    refused = threading.Event()

    def serve(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(paramiko.ECDSAKey.generate())
        transport.start_server(server=Refusing())
        refused.wait(10)
        transport.close()

    with tcp_server(serve) as port:
        error = ask_ssh(port)
        refused.set()
    assert classify(error).category is Category.AUTH


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_ssh_server_without_a_banner_is_retried() -> None:
    with tcp_server(lambda connection: None) as port:
        assert classify(ask_ssh(port)).recoverability == "retry"


def test_an_ssh_server_that_is_not_there_is_unreachable() -> None:
    assert classify(ask_ssh(closed_port())).category is Category.UNREACHABLE
