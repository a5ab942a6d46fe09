"""Each client library, as a function that asks a URL and raises what the library raises; no library retries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import botocore.config
import botocore.session
import docker
import elasticsearch
import github
import google.api_core.exceptions
import httpx
import httpx2
import huggingface_hub.utils
import openai
import requests
import urllib3


def ask_httpx(url: str) -> Any:
    return httpx.get(url).raise_for_status().json()


def ask_httpx2(url: str) -> Any:
    return httpx2.get(url).raise_for_status().json()


def ask_requests(url: str) -> Any:
    response = requests.get(url, timeout=5)
    response.raise_for_status()
    return response.json()


def ask_aiohttp(url: str) -> Any:
    async def ask() -> Any:
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as response:
            return await response.json()

    return asyncio.run(ask())


def ask_urllib3(url: str) -> Any:
    with urllib3.PoolManager() as pool:
        return pool.request("GET", url, retries=False).json()


def ask_botocore(url: str) -> Any:
    client = botocore.session.get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b",
        config=botocore.config.Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )  # fmt: skip
    return client.get_object(Bucket="bucket", Key="key")["Body"].read()


def ask_google(url: str) -> Any:
    response = requests.get(url, timeout=5)
    if response.status_code >= 300:
        raise google.api_core.exceptions.from_http_response(response)
    return response.json()


def ask_elasticsearch(url: str) -> Any:
    with elasticsearch.Elasticsearch(url, max_retries=0, retry_on_timeout=False) as client:
        return client.info()


def ask_huggingface(url: str) -> Any:
    response = huggingface_hub.utils.get_session().get(url)
    huggingface_hub.utils.hf_raise_for_status(response)
    return response.json()


def ask_github(url: str) -> Any:
    return github.Github(base_url=url, retry=None, seconds_between_requests=None).get_repo("a/b")


def ask_openai(url: str) -> Any:
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.models.list()


def ask_docker(url: str) -> Any:
    client = docker.APIClient(base_url=url, version="1.43", timeout=5)
    try:
        return client.containers()
    finally:
        client.close()


CLIENTS: dict[str, Callable[[str], Any]] = {
    name.removeprefix("ask_"): function for name, function in list(globals().items()) if name.startswith("ask_")
}
