"""One request in hand: what handlers need of it, each part worked out when asked for."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from aiohttp import StreamReader
from aiohttp.web import BaseRequest, StreamResponse
from msgspec.structs import replace

from discovery.model.agent import AgentControl, LocalServices
from discovery.model.delegate import Delegate, WatchedAnswer
from discovery.model.errors import InvalidRequest, TooLarge
from discovery.model.records import Record
from discovery.model.requests import QueryMeta, QueryOptions, QuerySource

from .cache import ReadCache
from .decoding import DecodeError, Decoder, UnknownField
from .encoding import JSON, NO_TYPE, Reply, accepts_gzip, list_to_json, to_json
from .errors import bad_request
from .freshness import Terms, contact_headers, index_headers, is_too_old, terms_of
from .meter import Metrics
from .options import HttpOptions
from .params import NO_PARAMS, Params, blocking_options, consistency_options

T = TypeVar("T")

MAX_BODY: Final = 16 * 1024 * 1024
"""Bytes of a body that has no limit of its own in Consul."""
_ENTERPRISE: Final = "Namespaces are a Consul Enterprise feature"
_CATALOGS: Final = ("/v1/catalog/", "/v1/health/")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Api:
    """What all requests share."""

    def __init__(
        self, delegate: Delegate, services: LocalServices, agent: AgentControl, metrics: Metrics, options: HttpOptions
    ) -> None:
        self.delegate = delegate
        self.services = services
        self.agent = agent
        self.metrics = metrics
        self.options = options
        self.cache = ReadCache(delegate)
        self.true = self._boolean(True)
        self.false = self._boolean(False)

    def _boolean(self, value: bool) -> Reply:
        return Reply(200, to_json(value, pretty=self.agent.dev), JSON)


class Call:
    """`rest` is what follows the route's path; `path` is decoded and clean. `streaming`: the answer has begun already."""

    __slots__ = ("api", "method", "params", "path", "request", "rest", "streaming")

    def __init__(self, api: Api, request: BaseRequest, path: str, rest: str, query: str) -> None:
        self.api = api
        self.request = request
        self.method = request.method
        self.path = path
        self.rest = rest
        self.streaming = False
        self.params = Params(query) if query else NO_PARAMS

    # --- what is asked -----------------------------------------------------------------------------------------------

    @property
    def datacenter(self) -> str:
        return self.params.get("dc") or self.api.agent.datacenter

    @property
    def token(self) -> str:
        if token := self.params.get("token"):
            return token
        headers = self.request.headers
        if token := headers.get("X-Consul-Token", ""):
            return token
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and token:
            return token.strip()
        return self.api.options.default_token

    def scope(self) -> dict[str, Any]:
        """The fields of every `Request`."""
        return {"datacenter": self.datacenter, "token": self.token}

    def read(self) -> dict[str, Any]:
        """The fields of `QueryOptions`."""
        if not (self.params or self.api.options.discovery_max_stale or "Cache-Control" in self.request.headers):
            return self.scope()
        return self.consistency() | blocking_options(self.params) | self.scope()

    def consistency(self) -> dict[str, Any]:
        """The fields of `QueryOptions` that say how fresh an answer must be and where it may come from."""
        options = self.api.options
        max_stale = options.discovery_max_stale if self.path.startswith(("/v1/catalog", "/v1/health")) else 0
        control = self.request.headers.get("Cache-Control", "")
        return consistency_options(self.params, control, use_cache=options.use_cache, max_stale=max_stale)

    def refuse_namespace(self) -> None:
        """Namespaces are no part of the open edition: a request that means one must not be answered from all there is."""
        if self.params.get("ns"):
            raise bad_request(f'Invalid query parameter: "ns" - {_ENTERPRISE}')
        if self.request.headers.get("X-Consul-Namespace"):
            raise bad_request(f'Invalid header: "X-Consul-Namespace" - {_ENTERPRISE}')

    @property
    def near(self) -> str:
        name = self.params.get("near")
        return self.api.agent.node_name if name == "_agent" else name

    def source(self) -> QuerySource:
        return QuerySource(datacenter=self.api.agent.datacenter, node=self.near, ip=self.client_address)

    @property
    def client_address(self) -> str:
        forwarded = self.request.headers.get("X-Forwarded-For", "").partition(",")[0].strip()
        return forwarded or self.request.remote or ""

    def need(self, missing: str) -> str:
        """The rest of the path; `missing` is the text where there is none."""
        if not self.rest:
            raise InvalidRequest(missing)
        return self.rest

    async def body(self, limit: int = MAX_BODY, too_large: str = "Request body too large, max size: {limit} bytes.") -> bytes:
        """The body. Raises `TooLarge` with `too_large` (`{size}` and `{limit}` filled in) before more than that is read."""
        request = self.request
        announced = request.headers.get("Content-Length")
        if announced is not None and len(announced) < 20 and int(announced) > limit:
            raise TooLarge(too_large.format(size=announced, limit=limit))
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(_CONTINUE)
        body = await _read(request.content, limit)
        if body is None:
            raise TooLarge(too_large.format(size=f"more than {limit}", limit=limit))
        return body

    async def decode(self, decoder: Decoder[T], prefix: str = "Request decode failed: ") -> T:
        """The JSON body; a bad one is answered 400 with `prefix` before Go's text."""
        try:
            return decoder.decode(await self.body())
        except UnknownField as error:
            hint = f" - {_ENTERPRISE}" if error.field == "Namespace" and self.path.startswith("/v1/catalog/") else ""
            raise InvalidRequest(f"{prefix}{error}{hint}") from None
        except DecodeError as error:
            raise InvalidRequest(f"{prefix}{error}") from None

    # --- asking on ---------------------------------------------------------------------------------------------------

    async def ask(self, method: str, request: Record) -> Any:
        return (await self._ask(method, request)).reply

    async def ask_read(self, method: str, request: QueryOptions) -> tuple[Any, Terms | None]:
        """The answer, and on what terms it may be kept, if it may: read here, and not sorted by distance."""
        answer = await self._ask(method, request)
        watch = answer.watch if "near" not in self.params else None
        return self.without_peers(answer.reply), terms_of(request, watch) if watch is not None else None

    async def _ask(self, method: str, request: Record) -> WatchedAnswer:
        """From the leader, where the answer of another is older than the request bears."""
        answer = await self.api.delegate.ask(method, request)
        if isinstance(request, QueryOptions) and isinstance(answer.reply, QueryMeta) and is_too_old(request, answer.reply):
            return await self.api.delegate.ask(method, replace(request, allow_stale=False, max_stale_duration=0))
        return answer

    def without_peers(self, reply: Any) -> Any:
        """Nothing of what is in the catalog, if the question is what was imported from a peer: there are none."""
        if not self.params.get("peer") or not self.path.startswith(_CATALOGS):
            return reply
        return type(reply)(**{name: getattr(reply, name) for name in QueryMeta.__struct_fields__})

    # --- answering ---------------------------------------------------------------------------------------------------

    @property
    def pretty(self) -> bool:
        return self.api.agent.dev or "pretty" in self.params

    def json(self, value: Any, *, status: int = 200, extra: bytes = b"") -> Reply:
        return Reply(status, to_json(value, pretty=self.pretty), JSON, extra)

    def read_reply(
        self, value: Any, meta: QueryMeta, *, consistency: bool = False, extra: bytes = b"", terms: Terms | None = None
    ) -> Reply:
        """A read's answer as JSON."""
        body = to_json(value, pretty=self.pretty)
        return read_answer(body, JSON, meta, consistency=consistency, extra=extra, terms=terms)

    async def list_reply(
        self, value: Any, meta: QueryMeta, *, consistency: bool = False, extra: bytes = b"", terms: Terms | None = None
    ) -> Reply:
        """As `read_reply`, for what may be long."""
        body = await list_to_json(value, pretty=self.pretty)
        return read_answer(body, JSON, meta, consistency=consistency, extra=extra, terms=terms)

    def not_found(self, meta: QueryMeta, terms: Terms | None) -> Reply:
        """404 of a read whose headers come after its status in Consul: only clients that accept gzip see them, since for those
        the whole answer is held back until it is complete."""
        if accepts_gzip(self.request.headers.get("Accept-Encoding", "")):
            return read_answer(b"", NO_TYPE, meta, status=404, terms=terms)
        return Reply(404)

    async def stream(self, content_type: str, headers: Mapping[str, str]) -> StreamResponse:
        """The beginning of an answer without an end."""
        configured = self.api.options.response_headers
        response = StreamResponse(headers={**configured, **headers, **({"Content-Type": content_type} if content_type else {})})
        response.enable_chunked_encoding()
        self.streaming = True
        await response.prepare(self.request)
        return response

    def boolean(self, value: bool) -> Reply:
        if "pretty" in self.params:
            return self.json(value)
        return self.api.true if value else self.api.false


def read_answer(
    body: bytes,
    content_type: bytes,
    meta: QueryMeta,
    *,
    status: int = 200,
    consistency: bool = False,
    extra: bytes = b"",
    terms: Terms | None = None,
) -> Reply:
    """A read's answer with the headers that say how fresh it is."""
    headers = index_headers(meta, consistency=consistency) + extra
    contact = contact_headers(meta.known_leader, meta.last_contact)
    return Reply(status, body, content_type, headers, contact, terms, meta.index)


DONE: Final = Reply()
"""Success without data."""


async def _read(content: StreamReader, limit: int) -> bytes | None:
    """All of `content`; None if that is more than `limit` bytes."""
    body = await content.readany()
    if not content.at_eof():
        parts = [body]
        while not content.at_eof():
            parts.append(await content.readany())
            if content.total_bytes > limit:
                return None
        body = b"".join(parts)
    return body if len(body) <= limit else None
