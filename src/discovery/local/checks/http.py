"""HTTP checks: 2xx passes, 429 warns, everything else is critical. All of them share one client session."""

import asyncio
import ssl as tls
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from discovery.model.definitions import CheckSpec

from .dialing import dial_error
from .result import Result, Tail, critical, passing, warning

_HEADERS: Final = {
    "User-Agent": "Consul Health Check",
    "Accept": "text/plain, text/*, */*",
    "Accept-Encoding": "gzip",
    "Connection": "close",
}
_TOO_MANY_REQUESTS: Final = 429
_CHUNK: Final = 16 * 1024


class HttpClient:
    """The session that all HTTP checks share, made when the first of them runs."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Not limited here: a check's runs don't overlap, so there are never more connections than checks.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class HttpProbe:
    """`timeout` is in seconds, `limit` the bytes of the body that are kept, `context` is for HTTPS."""

    def __init__(
        self, spec: CheckSpec, client: HttpClient, timeout: float, limit: int, context: tls.SSLContext | None = None
    ) -> None:
        self._spec = spec
        self._client = client
        self._timeout = timeout
        self._limit = limit
        self._method = spec.method or "GET"
        self._headers = _headers(spec)
        self._context = context

    async def run(self) -> Result:
        scheme = urlsplit(self._spec.http).scheme
        if scheme not in ("http", "https"):
            return self._failed(f'unsupported protocol scheme "{scheme}"')
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask()
        except TimeoutError:
            return self._failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
        except (aiohttp.ClientError, tls.CertificateError, OSError, ValueError) as error:
            return self._failed(_error_text(error))

    async def _ask(self) -> Result:
        body = Tail(self._limit)
        async with self._client.session().request(
            self._method,
            self._spec.http,
            headers=self._headers,
            data=self._spec.body or None,
            allow_redirects=not self._spec.disable_redirects,
            ssl=self._context if self._context is not None else True,
            server_hostname=self._spec.tls_server_name or None,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            async for chunk in response.content.iter_chunked(_CHUNK):
                body.add(chunk)
        return self._judge(response.status, response.reason or "", body.text)

    def _judge(self, status: int, reason: str, body: str) -> Result:
        text = f"HTTP {self._method} {self._spec.http}: {status} {reason} Output: {body}"
        if 200 <= status < 300:
            return passing(text)
        return warning(text) if status == _TOO_MANY_REQUESTS else critical(text)

    def _failed(self, reason: str) -> Result:
        return critical(f'{self._method.capitalize()} "{self._spec.http}": {reason}')


def _headers(spec: CheckSpec) -> CIMultiDict[str]:
    given = CIMultiDict((name, value) for name, values in (spec.header or {}).items() for value in values)
    defaults = CIMultiDict((name, value) for name, value in _HEADERS.items() if name not in given)
    defaults.extend(given)
    return defaults


def _error_text(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"x509: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"tls: {error.os_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return dial_error(f"{error.host}:{error.port}", error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "stopped after 10 redirects"
    return str(error) or type(error).__name__
