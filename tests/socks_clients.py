"""What programs fetch pages through a SOCKS proxy with: one function for each library, all of the same form.

Each returns the body of the page behind a URL, following redirects where the library can. The names of hosts go to the
proxy. Everything is closed at the end.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests
import socks  # type: ignore[import-untyped]
import sockshandler  # type: ignore[import-untyped]
import urllib3.contrib.socks
from aiohttp_socks import ProxyConnector
from python_socks.async_.asyncio import Proxy

from tests.fake_tor import socks_connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Address = tuple[str, int]
NO_HEADERS: Mapping[str, str] = {}
_TLS = ssl.create_default_context()  # httpx would read all certificates again for each client


def with_requests(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """requests with PySocks."""
    address = f"socks5h://{proxy[0]}:{proxy[1]}"
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=dict(headers), proxies={"http": address, "https": address}, timeout=60).content


def with_urllib3(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """urllib3's SOCKS manager."""
    with urllib3.contrib.socks.SOCKSProxyManager(f"socks5h://{proxy[0]}:{proxy[1]}/") as manager:
        body: bytes = manager.request("GET", url, headers=headers, timeout=60).data
        return body


def with_urllib(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """urllib with PySocks' handler."""
    handler = sockshandler.SocksiPyHandler(socks.SOCKS5, *proxy, True)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
    with opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=60) as response:
        body: bytes = response.read()
        return body


def with_httpx(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """httpx with its socks extra."""
    address = f"socks5://{proxy[0]}:{proxy[1]}"
    with httpx.Client(proxy=address, verify=_TLS, trust_env=False, follow_redirects=True, timeout=60) as client:
        return client.get(url, headers=headers).content


async def async_with_httpx(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """The same, asyncio."""
    address = f"socks5://{proxy[0]}:{proxy[1]}"
    async with httpx.AsyncClient(
        proxy=address, verify=_TLS, trust_env=False, follow_redirects=True, timeout=60
    ) as client:
        return (await client.get(url, headers=headers)).content


async def async_with_aiohttp(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """aiohttp-socks."""
    connector = ProxyConnector.from_url(f"socks5://{proxy[0]}:{proxy[1]}", rdns=True)
    timeout = aiohttp.ClientTimeout(60)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get(url, headers=headers) as response,
    ):
        return await response.read()


async def async_with_python_socks(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """python-socks and asyncio's streams, HTTP by hand."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connected = await Proxy.from_url(f"socks5://{proxy[0]}:{proxy[1]}", rdns=True).connect(
        parts.hostname, parts.port or 80, timeout=60
    )
    reader, writer = await asyncio.open_connection(sock=connected)
    writer.write(_request(parts.hostname, parts.path, headers))
    answer = await reader.readuntil(b"ok")
    writer.close()
    await writer.wait_closed()
    return answer[-2:]


def with_http_client(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """http.client on a connection that the program made."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80)
    connection.sock = socks_connect(proxy, parts.hostname, parts.port or 80)
    try:
        connection.request("GET", parts.path, headers=dict(headers))
        return connection.getresponse().read()
    finally:
        connection.close()


def with_socket(proxy: Address, url: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """A plain socket, SOCKS and HTTP by hand."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socks_connect(proxy, parts.hostname, parts.port or 80) as client:
        client.sendall(_request(parts.hostname, parts.path, headers))
        answer = b""
        while not answer.endswith(b"ok"):
            piece = client.recv(65536)
            if not piece:
                raise EOFError
            answer += piece
    return answer[-2:]


def _request(host: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"GET {path or '/'} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


BLOCKING: dict[str, Callable[..., bytes]] = {
    "requests": with_requests,
    "urllib3": with_urllib3,
    "urllib": with_urllib,
    "httpx": with_httpx,
    "http.client": with_http_client,
    "socket": with_socket,
}
ASYNC: dict[str, Callable[..., Any]] = {
    "httpx-async": async_with_httpx,
    "aiohttp-socks": async_with_aiohttp,
    "python-socks": async_with_python_socks,
}


def _run(function: Callable[..., Any]) -> Callable[..., bytes]:
    return lambda *arguments: asyncio.run(function(*arguments))


# All of them, to be called from where nothing runs.
CLIENTS: dict[str, Callable[..., bytes]] = {**BLOCKING, **{name: _run(each) for name, each in ASYNC.items()}}
# Those whose requests pass a library that is known: a traceparent is put on them.
HTTP_CLIENTS = {name: each for name, each in CLIENTS.items() if name not in ("socket", "python-socks")}
