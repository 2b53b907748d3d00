"""Which agent a command asks and what it shows of itself: addresses, TLS, Unix sockets, tokens, basic authentication."""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .programs import PretendedAgent, Result, run

KEYS_LINE = "GET /v1/kv/?keys=&separator=%2F"
FOUND = Result(0, "a\n", "")


def asks(address: str, **variables: str) -> Result:
    return run("kv", "get", "-keys", address=address, variables=variables)


@contextlib.contextmanager
def answering(agent: PretendedAgent) -> Iterator[PretendedAgent]:
    agent.answer(KEYS_LINE, ["a"])
    try:
        yield agent
    finally:
        agent.close()


def test_the_flag_wins_over_the_environment(pretended: PretendedAgent, host: str) -> None:
    with answering(PretendedAgent(host)) as other:
        assert run("kv", "get", "-keys", f"-http-addr={other.address}", address=pretended.address) == FOUND
    assert pretended.lines == []


@pytest.mark.parametrize("form", ["{}", "http://{}", "http://{}/"])
def test_forms_of_an_address(form: str, pretended: PretendedAgent) -> None:
    with answering(pretended):
        assert asks(form.format(pretended.address)) == FOUND


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("tcp://127.0.0.1:8500", "Unknown protocol scheme: tcp"),
        ("http://", "invalid address '': host and port are expected"),
        ("127.0.0.1:99999", "invalid address '127.0.0.1:99999': Port out of range 0-65535"),
        ("a b:80", "invalid address 'a b:80': host and port are expected"),
    ],
)
def test_addresses_that_are_none(address: str, text: str) -> None:
    assert asks(address) == (1, "", f"Error connecting to Consul agent: {text}\n")


def test_a_unix_socket(tmp_path: Path) -> None:
    with answering(PretendedAgent("", socket_path=tmp_path / "agent.sock")) as agent:
        assert asks(agent.address) == FOUND
    missing = asks(f"unix://{tmp_path}/none")
    assert missing.code == 1
    assert missing.err.endswith(f"dial unix {tmp_path}/none: connect: no such file or directory\n")


def test_an_agent_that_hangs_up(host: str) -> None:
    with socket.create_server((host, 0)) as listening:

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = listening.getsockname()[1]
        result = asks(f"{host}:{port}")
        thread.join()
    assert result.code == 1
    assert result.err.endswith(f'Get "http://{host}:{port}/v1/kv/?keys=&separator=%2F": EOF\n')


# --- who asks -------------------------------------------------------------------------------------------------------


def token_sent(agent: PretendedAgent, *flags: str, **variables: str) -> str | None:
    agent.answer(KEYS_LINE, ["a"])
    assert run("kv", "get", *flags, "-keys", address=agent.address, variables=variables) == FOUND
    return agent.asked[-1].headers.get("X-Consul-Token")


def test_where_the_token_comes_from(pretended: PretendedAgent, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    other = tmp_path / "other"
    other.write_text("  from-other-file  ")
    by_variable = {"CONSUL_HTTP_TOKEN": "from-variable"}
    by_file = {"CONSUL_HTTP_TOKEN_FILE": str(file)}
    assert token_sent(pretended) is None
    assert token_sent(pretended, **by_variable) == "from-variable"
    assert token_sent(pretended, **by_variable, **by_file) == "from-file"
    assert token_sent(pretended, "-token=from-flag", **by_variable, **by_file) == "from-flag"
    assert token_sent(pretended, "-token=from-flag", f"-token-file={other}") == "from-other-file"


def test_a_token_file_that_is_missing(pretended: PretendedAgent) -> None:
    result = run("kv", "get", "-token-file=/nosuch", "-keys", address=pretended.address)
    text = "Error connecting to Consul agent: Error loading token file /nosuch : open /nosuch: no such file or directory\n"
    assert result == (1, "", text)
    assert pretended.lines == []


def test_basic_authentication(pretended: PretendedAgent) -> None:
    pretended.answer(KEYS_LINE, ["a"])
    assert asks(pretended.address, CONSUL_HTTP_AUTH="name:pass:word") == FOUND
    scheme, _, value = pretended.asked[-1].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", b"name:pass:word")


def test_the_namespace_of_the_environment_is_not_sent(pretended: PretendedAgent) -> None:
    pretended.answer(KEYS_LINE, ["a"])
    assert asks(pretended.address, CONSUL_NAMESPACE="n") == FOUND


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with an authority, a server certificate for this host, and a client's."""
    for arguments in (
        ("ca", "create"),
        ("cert", "create", "-server", "-additional-dnsname=agent.example"),
        ("cert", "create", "-cli"),
    ):
        assert run("tls", *arguments, folder=tmp_path).code == 0
    return tmp_path


@pytest.fixture
def secured(certificates: Path, host: str) -> Iterator[PretendedAgent]:
    """It shows its certificate and demands one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "dc1-server-consul-0.pem", certificates / "dc1-server-consul-0-key.pem")
    context.load_verify_locations(certificates / "consul-agent-ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    with answering(PretendedAgent(host, tls=context)) as agent:
        yield agent


def test_https_is_verified(secured: PretendedAgent, certificates: Path) -> None:
    address, authority = f"https://{secured.address}", str(certificates / "consul-agent-ca.pem")
    unknown = asks(address)
    assert unknown.code == 1
    assert "tls: " in unknown.err
    assert "certificate" in unknown.err
    other_name = asks(address, CONSUL_CACERT=authority)
    assert other_name.code == 1
    assert f"IP address mismatch, certificate is not valid for '{secured.address.split(':')[0]}'" in other_name.err
    assert secured.lines == []
    assert asks(address, CONSUL_CACERT=authority, CONSUL_TLS_SERVER_NAME="server.dc1.consul") == FOUND
    flags = (f"-ca-file={authority}", "-tls-server-name=agent.example")
    assert run("kv", "get", *flags, "-keys", address=address) == FOUND


def test_https_by_variables(secured: PretendedAgent, certificates: Path) -> None:
    by_name = {"CONSUL_TLS_SERVER_NAME": "localhost"}
    (certificates / "authorities").mkdir()
    (certificates / "consul-agent-ca.pem").rename(certificates / "authorities" / "any-name.pem")
    assert asks(secured.address, CONSUL_HTTP_SSL="true", CONSUL_CAPATH=str(certificates / "authorities"), **by_name) == FOUND
    assert asks(secured.address, CONSUL_HTTP_SSL="1", CONSUL_HTTP_SSL_VERIFY="false") == FOUND
    wrong = asks(secured.address, CONSUL_HTTP_SSL="maybe")
    assert (wrong.code, wrong.out) == (1, "")
    assert "could not parse CONSUL_HTTP_SSL" in wrong.err


def test_a_client_certificate_is_shown(certificates: Path, host: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "dc1-server-consul-0.pem", certificates / "dc1-server-consul-0-key.pem")
    context.load_verify_locations(certificates / "consul-agent-ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    trust = {"CONSUL_CACERT": str(certificates / "consul-agent-ca.pem"), "CONSUL_TLS_SERVER_NAME": "localhost"}
    identity = {
        "CONSUL_CLIENT_CERT": str(certificates / "dc1-cli-consul-0.pem"),
        "CONSUL_CLIENT_KEY": str(certificates / "dc1-cli-consul-0-key.pem"),
    }
    with answering(PretendedAgent(host, tls=context)) as agent:
        assert asks(f"https://{agent.address}", **trust, **identity) == FOUND
        assert asks(f"https://{agent.address}", **trust).code == 1


def test_tls_files_that_cannot_be_used(tmp_path: Path) -> None:
    result = asks("https://127.0.0.1:1", CONSUL_CACERT=str(tmp_path / "none"))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error connecting to Consul agent: TLS files cannot be used: ")


def test_https_to_a_plain_agent(pretended: PretendedAgent) -> None:
    result = asks(f"https://{pretended.address}")
    assert result.code == 1
    assert ": tls: " in result.err
    assert "Traceback" not in result.err
