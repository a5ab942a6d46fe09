"""Host families: hosts that take the same token, and which of them a URL belongs to. Pure."""

from __future__ import annotations

from recovery.installation import extra

with extra("launcher"):
    import httpx2

HOSTS: dict[str, tuple[str, ...]] = {
    "huggingface": ("huggingface.co", "www.huggingface.co", "hf.co"),
    "civitai": ("civitai.com", "www.civitai.com", "civitai.red", "www.civitai.red"),
    "github": ("github.com", "www.github.com"),
    "gitlab": ("gitlab.com",),
}
"""The hosts of each family. Other names below them are not of it: those of the storage take presigned URLs."""

PORTS = {"https": 443, "http": 80}


def origin_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of *url*, as the client reads them; None for what is no URL of HTTP."""
    try:
        read = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError):
        return None
    if read.scheme not in PORTS or not read.host:
        return None
    return read.scheme, read.host.rstrip("."), read.port or PORTS[read.scheme]


def family_of(url: str, endpoint: str | None = None) -> str:
    """The family that *url* belongs to, or else its host, with a port that is not that of its scheme; "" for no URL.

    Args:
        url: A URL of HTTP.
        endpoint: The endpoint of Hugging Face (``HF_ENDPOINT``): its origin belongs to that family, too.
    """
    origin = origin_of(url)
    if origin is None:
        return ""
    if endpoint and origin == origin_of(endpoint):
        return "huggingface"
    scheme, host, port = origin
    if port != PORTS[scheme]:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return next((family for family, hosts in HOSTS.items() if host in hosts), host)
