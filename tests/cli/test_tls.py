"""Certificates: judged by OpenSSL's own verification and against what Consul 1.8.7 puts into them."""

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from .programs import Result, run


def tls(folder: Path, *arguments: str) -> Result:
    return run("tls", *arguments, folder=folder)


def saved(*names: str) -> str:
    return "".join(f"==> Saved {name}\n" for name in names)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert tls(tmp_path, "ca", "create") == (0, saved("consul-agent-ca.pem", "consul-agent-ca-key.pem"), "")
    return tmp_path


def test_an_authority(folder: Path) -> None:
    authority = certificate(folder / "consul-agent-ca.pem")
    assert (authority.not_valid_after_utc - authority.not_valid_before_utc).days == 1825
    assert authority.issuer == authority.subject
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, True)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)


def test_keys_are_for_their_owner_alone(folder: Path) -> None:
    key = folder / "consul-agent-ca-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN EC PRIVATE KEY-----\n")


def test_nothing_is_overwritten(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert tls(folder, "ca", "create") == (1, "", "consul-agent-ca.pem already exists.\n")
    (folder / "other-agent-ca-key.pem").write_text("precious")
    assert tls(folder, "ca", "create", "-domain=other") == (1, "", "other-agent-ca-key.pem already exists.\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**before, "other-agent-ca-key.pem": b"precious"}


@pytest.mark.parametrize(
    ("role", "names", "usages"),
    [
        ("server", ["server.dc1.consul", "localhost", "127.0.0.1"], ["SERVER_AUTH", "CLIENT_AUTH"]),
        ("client", ["client.dc1.consul", "localhost", "127.0.0.1"], ["CLIENT_AUTH", "SERVER_AUTH"]),
        ("cli", ["cli.dc1.consul", "localhost"], []),
    ],
)
def test_a_certificate_for_each_role(role: str, names: list[str], usages: list[str], folder: Path) -> None:
    result = tls(folder, "cert", "create", f"-{role}")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith(
        "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n"
        + saved(f"dc1-{role}-consul-0.pem", f"dc1-{role}-consul-0-key.pem")
    )
    assert result.out.startswith("==> WARNING: ") == (role == "server")
    made = certificate(folder / f"dc1-{role}-consul-0.pem")
    assert made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"{role}.dc1.consul"
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days == 365
    alternatives = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in alternatives] == names
    shown = [use for use in made.extensions if isinstance(use.value, x509.ExtendedKeyUsage)]
    assert [use for one in shown for use in one.value] == [getattr(ExtendedKeyUsageOID, name) for name in usages]


def test_the_authority_vouches_for_its_certificates(folder: Path) -> None:
    tls(folder, "cert", "create", "-server", "-node=n1")
    made = certificate(folder / "dc1-server-consul-0.pem")
    authority = certificate(folder / "consul-agent-ca.pem")
    made.verify_directly_issued_by(authority)
    builder = PolicyBuilder().store(Store([authority]))
    chain = builder.build_server_verifier(x509.DNSName("n1.server.dc1.consul")).verify(made, [])
    assert chain[-1] == authority


def test_further_names_come_first(folder: Path) -> None:
    flags = ("-node=n1", "-dc=dc5", "-additional-dnsname=a.b", "-additional-ipaddress=1.2.3.4", "-additional-ipaddress=::1")
    assert tls(folder, "cert", "create", "-server", *flags).code == 0
    made = certificate(folder / "dc5-server-consul-0.pem")
    alternatives = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = ["a.b", "n1.server.dc5.consul", "server.dc5.consul", "localhost"]
    assert [str(name.value) for name in alternatives] == [*hosts, "1.2.3.4", "::1", "127.0.0.1"]


def test_numbers_go_on_from_the_first_that_is_free(folder: Path) -> None:
    for number in range(3):
        out = tls(folder, "cert", "create", "-client", "-days=2").out
        assert out.endswith(saved(f"dc1-client-consul-{number}.pem", f"dc1-client-consul-{number}-key.pem"))


def test_an_authority_for_one_domain(tmp_path: Path) -> None:
    flags = ("-domain=foo", "-name-constraint", "-additional-name-constraint=bar")
    assert tls(tmp_path, "ca", "create", *flags).out == saved("foo-agent-ca.pem", "foo-agent-ca-key.pem")
    authority = certificate(tmp_path / "foo-agent-ca.pem")
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [name.value for name in constraints.value.permitted_subtrees or []] == ["bar", "foo", "localhost"]
    assert tls(tmp_path, "cert", "create", "-server", "-domain=foo", "-additional-dnsname=x.bar").code == 0
    refused = tls(tmp_path, "cert", "create", "-client", "-domain=foo", "-additional-dnsname=a.b")
    assert (refused.code, refused.out) == (1, "==> Using foo-agent-ca.pem and foo-agent-ca-key.pem\n")
    assert refused.err == (
        "x509: a root or intermediate certificate is not authorized to sign for this name: "
        'DNS name "a.b" is not permitted by any constraint\n'
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("cert create", "Please provide either -server, -client, or -cli"),
        ("cert create -server -client", "Please provide either -server, -client, or -cli"),
        ("cert create -client -node=x", "-node requires -server"),
        ("cert create -server -ca=nosuch", "Error reading CA: open nosuch: no such file or directory"),
        ("cert create -server -key=nosuch", "Error reading CA key: open nosuch: no such file or directory"),
        ("ca create -domain=x -additional-name-constraint=bar", "-additional-name-constraint requires -name-constraint"),
        ("ca create -domain=x -days=0", "-days must be at least 1, not 0"),
        ("ca create -domain=x -days=99999999", "-days=99999999 is too long"),
    ],
)
def test_refusals(arguments: str, text: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert tls(folder, *arguments.split(" ")) == (1, "", f"{text}\n")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("-additional-ipaddress=bogus",), "-additional-ipaddress: 'bogus' does not appear to be an IPv4 or IPv6 address"),
        (("-ca=consul-agent-ca-key.pem",), "consul-agent-ca-key.pem is no certificate in PEM"),
        (("-key=consul-agent-ca.pem",), "consul-agent-ca.pem is no private key in PEM without a password"),
        (("-key=other-agent-ca-key.pem",), "other-agent-ca-key.pem is not the key of consul-agent-ca.pem"),
    ],
)
def test_files_and_names_that_do_not_fit(flags: tuple[str, ...], text: str, folder: Path) -> None:
    tls(folder, "ca", "create", "-domain=other")
    before = sorted(folder.iterdir())
    result = tls(folder, "cert", "create", "-client", *flags)
    assert (result.code, result.err) == (1, f"{text}\n")
    assert sorted(folder.iterdir()) == before


def test_openssl_accepts_the_pair(folder: Path) -> None:
    tls(folder, "cert", "create", "-server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "dc1-server-consul-0.pem", folder / "dc1-server-consul-0-key.pem")
