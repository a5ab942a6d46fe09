"""What failures of networks and servers mean, and what a person can do. Pure."""

from __future__ import annotations

from recovery.policies.sentence import Sentence

NETWORK = "Check the network connection."
ADDRESS = "Check the address for spelling mistakes."
REACH = "Check the network connection, the spelling of the address, and that the server is running."
TOKEN = "Log in, or give a token that has the right."  # words
LATER = "Wait a while: only the owner of the server can mend it."
ANSWERS = "It goes on by itself once the host answers."
SETTINGS = "Read what the message says, and correct the request or the settings."

NETWORK_SENTENCES: dict[str, Sentence] = {
    key: Sentence(*texts)
    for key, *texts in (
        ("refused", "nothing answers[ at {host}]: the connection was refused",
         "Check that the server[ {host}] is running.", ANSWERS),
        ("host-unreachable", "the host[ {host}] cannot be reached", NETWORK, ANSWERS),
        ("network-unreachable", "the network cannot be reached", NETWORK,
         "It goes on by itself once the network is back."),
        ("no-address", "the address is not available",
         "Check the address in the settings, and the network connection."),
        ("not-reached", "the host[ {host}] was not reached", REACH, ANSWERS),
        ("name-not-found", "the name of the host[ {host}] was not found", f"{ADDRESS} {NETWORK}", ANSWERS),
        ("network", "the network failed", NETWORK),
        ("broke-off", "the connection[ to {host}] broke off", NETWORK),
        ("connection-failed", "the connection[ to {host}] failed", NETWORK),
        ("transfer-broke-off", "the transfer[ from {host}] broke off", NETWORK),
        ("timed-out", "the time limit ran out", "Check the network connection, or allow more time."),
        ("certificate", "the certificate[ of {host}] is not trusted",
         "Check the date and time of this machine. Behind the proxy of a company, install its certificate."),
        ("tls-failed", "the encrypted connection[ to {host}] failed",
         "Check that the server speaks https there, the network connection, and proxies on the way."),
        ("proxy-failed", "the proxy failed", "Check the proxy in the settings of this machine."),
        ("unreadable", "the answer cannot be read",
         "Check whether a proxy or a login page answers in place of the server."),
        ("redirected", "the server redirects without end", ADDRESS),
        ("bad-url", "the URL is not usable", "Correct the URL."),
        ("wrong-host", "the host[ {host}] is not the one that is expected",
         "Check the address. If the host was set up again, trust its new key."),
        ("offline", "the program was told to stay offline", "Allow the program to use the network."),
        ("busy-server", "the server[ {host}] is overloaded or out of order[ (HTTP {status})]", LATER),
        ("fewer-requests", "the server[ {host}] wants fewer requests[ (HTTP {status})][, and a wait of {wait}]",
         "Start fewer things at once. Many servers allow more to users that log in.",
         "It is tried again by itself; an earlier try would probably be refused."),
        ("login", "a login is needed[ (HTTP {status})]", TOKEN, "It goes on by itself once that is answered."),
        ("denied", "the server denies access[ (HTTP {status})]",
         "Check that your account has the right, and that its token is valid.",
         "It goes on by itself once that is answered."),
        ("access", "the server[ {host}] does not allow access yet",
         "Give a token of an account that has the right.", "It goes on by itself once that is answered."),
        ("payment", "the file must be paid for first[ (HTTP {status})]", "Buy access with the account of the token.",
         "It goes on by itself once that is answered."),
        ("proxy-login", "the proxy wants a login[ (HTTP {status})]", "Give the proxy's user name and password.",
         "It goes on by itself once that is answered."),
        ("not-found", "the server[ {host}] has no such file or page[ (HTTP {status})]",
         f"{ADDRESS} It may have been moved, renamed or deleted."),
        ("gone", "the file or page is gone for good[ (HTTP {status})]", "Look for another source."),
        ("illegal", "a law forbids access[ (HTTP {status})]", "Look for another source."),
        ("bad-request", "the server cannot read the request[ (HTTP {status})]", SETTINGS),
        ("refused-request", "the server refuses the request[ (HTTP {status})]", SETTINGS),
        ("refused-content", "the server refuses what the request says[ (HTTP {status})]", SETTINGS),
        ("bad-method", "the server does not take such requests[ (HTTP {status})]", SETTINGS),
        ("bad-format", "the server does not take this format[ (HTTP {status})]", SETTINGS),
        ("no-format", "the server has no such format[ (HTTP {status})]", SETTINGS),
        ("contradiction", "the request contradicts what the server has[ (HTTP {status})]",
         "Look at what the server has: something else changed it."),
        ("changed", "the file has changed on the server[ (HTTP {status})]", "Get its present state first."),
        ("too-large", "the request is too large for the server[ (HTTP {status})]", "Send less at once."),
        ("bad-range", "the server has no such range of bytes[ (HTTP {status})]", "Delete the partial file."),
        ("too-slow", "the server waited too long for the request[ (HTTP {status})]", NETWORK),
        ("too-early", "the server wants the request later[ (HTTP {status})]", LATER),
        ("server-failed", "the server failed[ (HTTP {status})]", LATER),
        ("cannot-do", "the server cannot do that[ (HTTP {status})]", SETTINGS),
        ("old-http", "the server does not speak this version of HTTP[ (HTTP {status})]", ADDRESS),
        ("server-full", "the server's disk is full[ (HTTP {status})]", LATER),
        ("bandwidth", "the server's bandwidth is used up[ (HTTP {status})]",
         "Wait a while, or look for another source."),
        ("elsewhere", "the server sends the request elsewhere[ (HTTP {status})]",
         "Use the address to which the server leads."),
        ("server-memory", "the server's memory is full", LATER),
        ("moved-key", "the key has moved to another server", "Check the servers in the settings."),
        ("lost-race", "another client was faster", "Use fewer clients at once."),
        ("refused-data", "the database or its driver refuses what it was given", SETTINGS),
    )
}  # fmt: skip
"""By the name of the cause."""
