"""What libraries' own codes and exception classes mean: tables by name, so that no library need be imported. Pure.

A code is more exact than an HTTP status: AWS answers 400 for a throttled request, Google 409 for an aborted one.

Source: gRPC's status codes; botocore's ``retries/standard.py``; PostgreSQL's appendix A (SQLSTATE, SQL:2016); SQLite's
result codes; the error codes of OpenAI's API.
"""

from __future__ import annotations

from events.evidence import Category

T, U, R, E, A, L, P, X, C = Category  # transient, unreachable, ..., exhausted, cancelled: short, for the tables

BY_CODE: dict[str, Category] = {
    name: category
    for category, names in (
        # gRPC, also as Google's APIs write it in JSON.
        (T, "UNAVAILABLE DEADLINE_EXCEEDED ABORTED INTERNAL UNKNOWN"),
        (R, "RESOURCE_EXHAUSTED"),
        (A, "UNAUTHENTICATED PERMISSION_DENIED"),
        (P, "INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS FAILED_PRECONDITION OUT_OF_RANGE UNIMPLEMENTED DATA_LOSS"),
        (C, "CANCELLED"),
        # AWS and the stores that speak S3.
        (R, "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException SlowDown"),
        (R, "TooManyRequestsException ProvisionedThroughputExceededException RequestLimitExceeded"),
        (R, "BandwidthLimitExceeded LimitExceededException EC2ThrottledException"),
        (T, "RequestTimeout RequestTimeoutException PriorRequestNotComplete TransactionInProgressException"),
        (T, "InternalError InternalFailure InternalServerError ServiceUnavailable ServiceUnavailableException"),
        (A, "AccessDenied AccessDeniedException AuthFailure ExpiredToken ExpiredTokenException InvalidAccessKeyId"),
        (A, "InvalidClientTokenId SignatureDoesNotMatch UnauthorizedOperation UnrecognizedClientException"),
        (P, "NoSuchBucket NoSuchKey ResourceNotFoundException ValidationError ValidationException"),
        (P, "ConditionalCheckFailedException InvalidParameterValue"),
        # OpenAI, and what its clients are told by "x-should-retry".
        (R, "rate_limit_exceeded"),
        (A, "insufficient_quota billing_hard_limit_reached invalid_api_key"),
        (P, "context_length_exceeded model_not_found should-not-retry"),
        (T, "should-retry"),
        # SQLite.
        (T, "SQLITE_BUSY SQLITE_LOCKED SQLITE_INTERRUPT SQLITE_IOERR SQLITE_PROTOCOL SQLITE_SCHEMA"),
        (E, "SQLITE_FULL SQLITE_NOMEM"),
        (P, "SQLITE_ERROR SQLITE_PERM SQLITE_READONLY SQLITE_CORRUPT SQLITE_CANTOPEN SQLITE_TOOBIG SQLITE_CONSTRAINT"),
        (P, "SQLITE_MISMATCH SQLITE_MISUSE SQLITE_AUTH SQLITE_RANGE SQLITE_NOTADB"),
        # A JSON text that ends too early: a transfer that was cut.
        (T, "cut-off"),
    )
    for name in names.split()
}
BY_SQLSTATE: dict[str, Category] = {
    # By class: the first two characters. Lost connections, rollbacks, resources, locks, a server that restarts.
    "08": T, "40": T, "53": T, "55": T, "57": T, "58": T,
    "28": A,
    "0A": P, "21": P, "22": P, "23": P, "25": P, "26": P, "2D": P, "34": P, "3D": P, "3F": P, "42": P, "44": P,
    "25006": T,  # read-only: after a failover, the connection leads to a server that is not the primary
}  # fmt: skip

SQLSTATE = "SQLSTATE "
"""What begins the code of a database error: ``SQLSTATE 40001``."""


def meaning_of_code(code: str) -> Category | None:
    """The category of a library's code, ``None`` if it is not known. A refined code counts as the one that it refines.

    Args:
        code: "UNAVAILABLE", "SlowDown", "SQLITE_BUSY_SNAPSHOT", "SQLSTATE 40001".
    """
    if code.startswith(SQLSTATE):
        state = code[len(SQLSTATE) :]
        return BY_SQLSTATE.get(state, BY_SQLSTATE.get(state[:2]))
    if code.startswith("SQLITE_"):
        code = "_".join(code.split("_", 2)[:2])
    return BY_CODE.get(code)


DB_API = ("sqlite3", "psycopg", "psycopg2", "pymysql.err", "MySQLdb", "mysql.connector.errors", "sqlalchemy.exc")

BY_CLASS: tuple[tuple[Category, str, str, str], ...] = (
    # Category, module, names of classes, cause (recovery.policies.sentences).
    (T, "redis.exceptions", "ConnectionError", "connection-failed"),
    (T, "redis.exceptions", "TimeoutError", "timed-out"),
    (T, "redis.exceptions", "BusyLoadingError ReadOnlyError ClusterError ClusterDownError", "busy-server"),
    (T, "redis.exceptions", "TryAgainError", "busy-server"),
    (T, "redis.exceptions", "AskError", "moved-key"),
    (T, "redis.exceptions", "WatchError LockError", "lost-race"),
    (E, "redis.exceptions", "OutOfMemoryError", "server-memory"),
    (A, "redis.exceptions", "AuthenticationError AuthorizationError NoPermissionError", "login"),
    (A, "redis.exceptions", "AuthenticationWrongNumberOfArgsError", "login"),
    (P, "redis.exceptions", "ResponseError DataError LockNotOwnedError PubSubError", "refused-data"),
    (A, "paramiko.ssh_exception", "AuthenticationException", "login"),
    (U, "paramiko.ssh_exception", "NoValidConnectionsError", "not-reached"),
    (P, "paramiko.ssh_exception", "BadHostKeyException IncompatiblePeer", "wrong-host"),
    (P, "paramiko.ssh_exception", "ConfigParseError", "misused"),
    (U, "botocore.exceptions", "EndpointConnectionError ConnectTimeoutError", "not-reached"),
    (A, "botocore.exceptions", "NoCredentialsError PartialCredentialsError NoAuthTokenError", "login"),
    (A, "botocore.exceptions", "SSOError LoginError", "login"),
    (P, "botocore.exceptions", "ValidationError ParamValidationError MissingParametersError", "misused"),
    (P, "botocore.exceptions", "DataNotFoundError BaseEndpointResolverError UnknownRegionError", "misused"),
    (P, "botocore.exceptions", "ProfileNotFound ConfigParseError ConfigNotFound InvalidConfigError", "misused"),
    (P, "docker.errors", "InvalidVersion InvalidRepository InvalidConfigFile InvalidArgument", "misused"),
    (P, "docker.errors", "DeprecatedMethod TLSParameterError ContextException ContextNotFound", "misused"),
    (P, "huggingface_hub.errors", "OfflineModeIsEnabled", "offline"),
    (P, "celery.exceptions", "MaxRetriesExceededError", "task-retries"),
    (T, "requests.exceptions", "JSONDecodeError", "unreadable"),
    (U, "aiohttp.client_exceptions", "ConnectionTimeoutError", "not-reached"),
    (P, "aiohttp.client_exceptions", "NonHttpUrlClientError", "bad-url"),
    (P, "aiohttp.client_exceptions", "ServerFingerprintMismatch", "wrong-host"),
    (P, "aiohttp.client_exceptions", "TooManyRedirects", "redirected"),
    *((P, module, "IntegrityError ProgrammingError NotSupportedError DataError", "refused-data") for module in DB_API),
)  # fmt: skip

ASK_THE_CAUSE = frozenset({"huggingface_hub.errors.LocalEntryNotFoundError"})
"""Classes whose cause decides if there is one: not in the cache, since the network failed."""

LIMITED = r"rate.?limit|too many requests|quota exceeded"
"""What the message of a 403 says that is no lack of rights (GitHub, Google)."""
