"""The exceptions by which a framework is steered: skip this test, run that task again later, answer with a redirect.

They are no failures, and whatever a call makes of them (a second message to a queue, a debugger that cannot quit) is
wrong: they pass at once. What is no ``Exception`` (``KeyboardInterrupt``, pytest's ``skip``) passes in any case. Pure,
by name: no framework is imported.
"""

from __future__ import annotations

STEERING: frozenset[str] = frozenset(
    f"{module}.{name}"
    for module, names in (
        ("builtins", "StopAsyncIteration StopIteration"),
        ("events.errors", "CallCancelledError"),
        ("bdb", "BdbQuit"),
        ("unittest.case", "SkipTest"),
        ("_pytest.outcomes", "Exit"),
        ("hypothesis.errors", "UnsatisfiedAssumption"),
        ("click.exceptions", "Abort Exit"),
        # Queues: run the task again, forget it, or end it before its time is over.
        ("celery.exceptions", "TaskPredicate Retry Ignore Reject"),
        ("billiard.exceptions", "SoftTimeLimitExceeded"),
        ("dramatiq.errors", "Retry"),
        ("huey.exceptions", "CancelExecution RetryTask"),
        ("arq.worker", "Retry RetryJob"),
        ("rq.timeouts", "BaseTimeoutException"),
        *((module, "AirflowSkipException AirflowFailException AirflowRescheduleException")
          for module in ("airflow.exceptions", "airflow.sdk.exceptions")),
        ("scrapy.exceptions", "CloseSpider DropItem IgnoreRequest StopDownload"),
        ("twisted.internet.defer", "CancelledError"),
        # Web frameworks: the answer is given, or lies elsewhere.
        ("werkzeug.routing.exceptions", "RequestRedirect"),
        ("aiohttp.web_exceptions", "HTTPRedirection HTTPSuccessful"),
        ("pyramid.httpexceptions", "HTTPRedirection HTTPSuccessful"),
        ("falcon.http_status", "HTTPStatus"),
        ("cherrypy._cperror", "HTTPRedirect InternalRedirect"),
        ("tornado.web", "Finish"),
        ("tornado.gen", "Return"),
    )
    for name in names.split()
)  # fmt: skip
"""The qualified names of their classes; those of classes below them are looked up by their bases."""
