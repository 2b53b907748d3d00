"""Probes against real sockets and processes on the loopback."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from discovery.local.checks.docker import DockerProbe
from discovery.local.checks.http import HttpClient, HttpProbe
from discovery.local.checks.os_service import OsServiceProbe
from discovery.local.checks.result import Result
from discovery.local.checks.script import ScriptProbe
from discovery.local.checks.tcp import TcpProbe
from discovery.local.checks.tls import AgentTls, TlsContexts
from discovery.local.checks.udp import UdpProbe
from discovery.model.definitions import CheckSpec
from discovery.model.errors import RequestFailed
from tests.transport.certificates import Authority

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TIMEOUT = 5.0


def closed_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def web_server(handler: Handler) -> AsyncIterator[str]:
    runner = web.AppRunner(_app(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _app(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    return app


async def http_check(spec: CheckSpec, *, timeout: float = TIMEOUT, limit: int = 4096) -> Result:
    client = HttpClient()
    try:
        return await HttpProbe(spec, client, timeout, limit).run()
    finally:
        await client.close()


# --- http ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (200, "passing", "OK"),
        (204, "passing", "No Content"),
        (299, "passing", "Odd"),
        (429, "warning", "Too Many Requests"),
        (404, "critical", "Not Found"),
        (503, "critical", "Service Unavailable"),
    ],
)
async def test_the_status_code_decides(status: int, expected: str, reason: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, reason=reason, text="" if status == 204 else "body")

    async with web_server(handler) as url:
        result = await http_check(CheckSpec(http=f"{url}/x"))
    body = "" if status == 204 else "body"
    assert result == (expected, f"HTTP GET {url}/x: {status} {reason} Output: {body}")


async def test_requests_look_like_consuls() -> None:
    seen: list[tuple[str, str, list[tuple[str, str]]]] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.text()
        seen.append((request.method, body, [(k.decode(), v.decode()) for k, v in request.raw_headers]))
        return web.Response()

    async with web_server(handler) as url:
        await http_check(CheckSpec(http=url))
        header = {"Host": ["web.internal"], "X-Many": ["a", "b"], "Accept": ["*/*"]}
        await http_check(CheckSpec(http=url, method="POST", body="ping", header=header))
    (method, _, plain), (other_method, body, given) = seen
    assert (method, other_method, body) == ("GET", "POST", "ping")
    headers = dict(plain)
    assert headers["User-Agent"] == "Consul Health Check"
    assert headers["Accept"] == "text/plain, text/*, */*"
    assert headers["Accept-Encoding"] == "gzip"
    assert headers["Connection"].lower() == "close"
    assert [value for key, value in given if key == "X-Many"] == ["a", "b"]
    assert [value for key, value in given if key == "Host"] == ["web.internal"]
    assert [value for key, value in given if key == "Accept"] == ["*/*"]


async def test_redirects_are_followed_unless_told_otherwise() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/from":
            raise web.HTTPFound("/to")
        return web.Response(text="there")

    async with web_server(handler) as url:
        assert (await http_check(CheckSpec(http=f"{url}/from"))).status == "passing"
        assert "302 Found" in (await http_check(CheckSpec(http=f"{url}/from", disable_redirects=True))).output


async def test_only_the_end_of_a_long_body_is_kept() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="x" * 100_000 + "end")

    async with web_server(handler) as url:
        result = await http_check(CheckSpec(http=url), limit=10)
    assert result.output == f"HTTP GET {url}: 200 OK Output: xxxxxxxend"


async def test_a_slow_server_is_critical_in_time() -> None:
    never = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with web_server(handler) as url:
        result = await http_check(CheckSpec(http=url), timeout=0.2)
        never.set()
    expected = f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    assert result == ("critical", expected)


async def test_https_with_the_agents_certificate(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="there")

    authority = Authority(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    served.load_cert_chain(*authority.issue("server", "server.test"))
    served.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(_app(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
    certificate, key = authority.issue("agent")
    agent = AgentTls(ca_file=authority.file, cert_file=certificate, key_file=key)
    try:
        for tls, expected in ((agent, "passing"), (AgentTls(ca_file=authority.file), "critical"), (None, "critical")):
            client, spec = HttpClient(), CheckSpec(http=url, tls_server_name="server.test")
            result = await HttpProbe(spec, client, TIMEOUT, 100, TlsContexts(tls).context(spec)).run()
            assert result.status == expected, result.output
            await client.close()
        assert result.output.startswith(f'Get "{url}": x509: ')
    finally:
        await runner.cleanup()


def test_contexts_are_shared_and_bad_files_are_told(tmp_path: Path) -> None:
    contexts = TlsContexts()
    assert contexts.context(CheckSpec(tcp="a:1")) is contexts.context(CheckSpec(tcp="b:1"))
    assert contexts.context(CheckSpec()) is not contexts.context(CheckSpec(tls_skip_verify=True))
    with pytest.raises(RequestFailed, match="TLS files of the agent can't be used for checks"):
        TlsContexts(AgentTls(ca_file=str(tmp_path / "none"))).context(CheckSpec())


async def test_http_errors_are_told_in_consuls_words() -> None:
    port = closed_port()
    url = f"http://127.0.0.1:{port}/"
    expected = f'Get "{url}": dial tcp 127.0.0.1:{port}: connect: connection refused'
    assert await http_check(CheckSpec(http=url)) == ("critical", expected)
    posted = await http_check(CheckSpec(http=url, method="POST"))
    assert posted.output.startswith(f'Post "{url}": dial tcp')
    odd = await http_check(CheckSpec(http="bad://127.0.0.1/"))
    assert odd.output == 'Get "bad://127.0.0.1/": unsupported protocol scheme "bad"'


async def test_a_server_that_hangs_up_or_talks_nonsense_is_critical() -> None:
    for answer in (b"", b"nonsense\r\n\r\n"):

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with serving(talk) as address:
            result = await http_check(CheckSpec(http=f"http://{address}/"))
        assert result.status == "critical"
        assert result.output.startswith(f'Get "http://{address}/": ')


# --- tcp, udp ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()


async def test_tcp_passes_where_something_listens() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(talk) as address:
        assert await TcpProbe(address, TIMEOUT).run() == ("passing", f"TCP connect {address}: Success")
        named = address.replace("127.0.0.1", "localhost")
        assert await TcpProbe(named, TIMEOUT).run() == ("passing", f"TCP connect {named}: Success")


async def test_tcp_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "server.test")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate, key)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=served)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    trusting = ssl.create_default_context(cafile=authority.file)
    try:
        assert (await TcpProbe(address, TIMEOUT, trusting, "server.test").run()).status == "passing"
        refused = await TcpProbe(address, TIMEOUT, ssl.create_default_context(), "server.test").run()
        assert refused == ("critical", "tls: CERTIFICATE_VERIFY_FAILED")
    finally:
        server.close()
    async with serving(talk) as plain:
        assert (await TcpProbe(plain, TIMEOUT, trusting, "server.test").run()).status == "critical"


async def test_tcp_errors_are_told_in_consuls_words() -> None:
    port = closed_port()
    refused = await TcpProbe(f"127.0.0.1:{port}", TIMEOUT).run()
    assert refused == ("critical", f"dial tcp 127.0.0.1:{port}: connect: connection refused")
    assert await TcpProbe("nonsense", TIMEOUT).run() == ("critical", "dial tcp: address nonsense: missing port in address")
    assert (await TcpProbe("127.0.0.1:99999", TIMEOUT).run()).output == "dial tcp: address 99999: invalid port"


async def test_tcp_gives_up_in_time() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    fill = [socket.socket() for _ in range(4)]
    for sock in fill:
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
    try:
        assert await TcpProbe(address, 0.3).run() == ("critical", f"dial tcp {address}: i/o timeout")
    finally:
        for sock in (listener, *fill):
            sock.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert isinstance(self.transport, asyncio.DatagramTransport)
        self.transport.sendto(b"hello", addr)


@pytest.mark.parametrize("protocol", [_Echo, asyncio.DatagramProtocol])
async def test_udp_passes_with_an_answer_and_with_silence(protocol: type[asyncio.DatagramProtocol]) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(protocol, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    result = await UdpProbe(f"127.0.0.1:{port}", 0.3).run()
    transport.close()
    assert result == ("passing", f"UDP connect 127.0.0.1:{port}: Success")


async def test_udp_fails_when_refused() -> None:
    port = closed_port(socket.SOCK_DGRAM)
    result = await UdpProbe(f"127.0.0.1:{port}", TIMEOUT).run()
    assert result == ("critical", f"read udp 127.0.0.1:{port}: read: connection refused")


# --- scripts -------------------------------------------------------------------------------------------------------


def script(*args: str, timeout: float = TIMEOUT, limit: int = 4096) -> ScriptProbe:
    return ScriptProbe(args, timeout, "1s", limit)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("echo fine", ("passing", "fine\n")),
        ("echo hm; exit 1", ("warning", "hm\n")),
        ("echo bad >&2; exit 2", ("critical", "bad\n")),
        ("kill -9 $$", ("critical", "")),
    ],
)
async def test_the_exit_code_decides(code: str, expected: tuple[str, str]) -> None:
    assert await script("sh", "-c", code).run() == expected


async def test_arguments_are_not_read_by_a_shell() -> None:
    assert await script("echo", "$HOME; exit 2").run() == ("passing", "$HOME; exit 2\n")


async def test_long_output_keeps_its_end() -> None:
    result = await script(sys.executable, "-c", "print('x' * 8000, end='')").run()
    assert result.output == "Captured 4096 of 8000 bytes\n...\n" + "x" * 4096


async def test_what_cannot_start_is_critical() -> None:
    assert await script("/no/such").run() == ("critical", "fork/exec /no/such: no such file or directory")
    assert (await script("/etc/passwd").run()).output == "fork/exec /etc/passwd: permission denied"
    missing = await script("no-such-program").run()
    assert missing == ("critical", 'exec: "no-such-program": executable file not found in $PATH')


async def test_a_script_out_of_time_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; echo hi; wait"
    result = await script("sh", "-c", code, timeout=0.5).run()
    assert result == ("critical", "Timed out (1s) running check\n\nhi\n")
    for pid in map(int, pids.read_text().split()):
        await _gone(pid)


async def test_a_child_that_left_the_group_does_not_hold_up_the_check(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f" os.setsid(); open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    )
    result = await script(sys.executable, "-c", code, timeout=1.0).run()
    assert result.status == "critical"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_a_stopped_check_ends_its_script(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)
    task = asyncio.ensure_future(script("sh", "-c", f"echo $$ > {pid_file}; sleep 1000").run())
    pid = int(await asyncio.to_thread(pid_file.read_text))
    task.cancel()
    await asyncio.wait([task])
    await _gone(pid)


async def test_a_check_stopped_while_its_script_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    for ticks in range(12):
        task = asyncio.ensure_future(script("sleep", f"1000.{ticks}").run())
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.wait([task])
        assert task.cancelled()
    for pid in _children_with("1000."):
        await _gone(pid)
    broken = asyncio.ensure_future(script("/no/such").run())
    await asyncio.sleep(0)
    broken.cancel()
    await asyncio.wait([broken])
    assert broken.cancelled()


def _children_with(argument: str) -> list[int]:
    """Processes of ours whose command line has `argument` in it."""
    lists = [path.read_text() for path in Path("/proc").glob(f"{os.getpid()}/task/*/children")]
    pids = [int(pid) for pids in lists for pid in pids.split()]
    return [pid for pid in pids if argument in Path(f"/proc/{pid}/cmdline").read_text()]


async def _gone(pid: int) -> None:
    """Until the process has ended; whoever inherits it may take a moment to collect it."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                if _state(pid) in "ZX":
                    return
            except (FileNotFoundError, ProcessLookupError):
                return
            await asyncio.sleep(0.01)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# --- os services ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('echo active; echo "$*" >&2; exit 3', ("critical", "web: active\nshow --property=ActiveState --value -- web")),
        ("echo active", ("passing", "Service web is active")),
        ("echo activating", ("warning", "Service web is activating")),
        ("echo inactive", ("critical", "Service web is inactive")),
        ("echo failed", ("critical", "Service web is failed")),
        ("sleep 1000", ("critical", "web: systemctl did not answer in time")),
    ],
)
async def test_what_systemd_says_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: tuple[str, str]
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n{script}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert await OsServiceProbe("web", 1.0).run() == expected


async def test_without_systemd_an_os_service_is_critical_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = await OsServiceProbe("web", TIMEOUT).run()
    assert result.status == "critical"
    assert result.output.startswith("OS service checks need systemd: ")


# --- docker --------------------------------------------------------------------------------------------------------


def docker_engine(exit_code: int, seen: list[object]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/containers/abc/exec":
            seen.append(await request.json())
            return web.json_response({"Id": "e1"}, status=201)
        if request.path == "/exec/e1/start":
            frames = b"\x01\0\0\0\0\0\0\x04out\n" + b"\x02\0\0\0\0\0\0\x04err\n"
            return web.Response(body=frames)
        if request.path == "/exec/e1/json":
            return web.json_response({"ExitCode": exit_code, "Running": False})
        raise web.HTTPNotFound(text="No such container")

    return handler


@pytest.mark.parametrize(("code", "status"), [(0, "passing"), (1, "warning"), (2, "critical")])
async def test_a_command_in_a_container_is_judged_by_its_exit_code(tmp_path: Path, code: int, status: str) -> None:
    seen: list[object] = []
    runner = web.AppRunner(_app(docker_engine(code, seen)))
    await runner.setup()
    path = str(tmp_path / "docker.sock")
    await web.UnixSite(runner, path).start()
    try:
        assert await DockerProbe("abc", ["ls"], TIMEOUT, 4096, f"unix://{path}").run() == (status, "out\nerr\n")
        missing = await DockerProbe("nope", ["ls"], TIMEOUT, 4096, f"unix://{path}").run()
    finally:
        await runner.cleanup()
    assert seen == [{"AttachStdout": True, "AttachStderr": True, "Tty": False, "Cmd": ["ls"]}]
    assert missing.status == "critical"
    assert "404" in missing.output


async def test_no_docker_is_critical_and_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    result = await DockerProbe("abc", ["ls"], TIMEOUT, 4096, f"unix://{path}").run()
    assert result.status == "critical"
    assert result.output.startswith("create exec failed for container abc: Post ")
    assert result.output.endswith(f"dial unix {path}: connect: no such file or directory")
