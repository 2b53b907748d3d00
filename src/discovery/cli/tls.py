"""`tls`: a certificate authority of one's own and certificates for agents.

Elliptic curve keys (P-256), names as Consul's agents check them: `server.<datacenter>.<domain>` proves a server.

Source: Consul documentation, "consul tls"; certificates as observed.
"""

import datetime
import ipaddress
import itertools
import os
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .action import Action, Group
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .output import FORMAT, as_json, show
from .values import file_content

_SERVER_WARNING: Final = """\
==> WARNING: whoever holds a server certificate can act as a server,
    and so see all state of the cluster with its keys and ACL tokens.
    Put it on server nodes only, and keep it as safe as the key of
    the certificate authority."""
_ROLES: Final = ("server", "client", "cli")
_USAGES: Final = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    "cli": (),
}


def _write(path: Path, data: bytes, mode: int) -> None:
    """Raises `Failed`; a file that is already there is never overwritten."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise Failed(f"{path} already exists.") from None
    except OSError as error:
        raise Failed(f"{path} can't be written: {error.strerror}") from None


def _save(given: Parsed, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, stem: str) -> None:
    certificate_path, key_path = Path(f"{stem}.pem"), Path(f"{stem}-key.pem")
    for path in (certificate_path, key_path):
        if path.exists():
            raise Failed(f"{path} already exists.")
    form, protection = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(key_path, key.private_bytes(serialization.Encoding.PEM, form, protection), 0o600)
    show(
        given, f"==> Saved {certificate_path}\n==> Saved {key_path}", {"Certificate": str(certificate_path), "Key": str(key_path)}
    )


def _builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, serial: int, days: int) -> x509.CertificateBuilder:
    if days < 1:
        raise Failed(f"-days must be at least 1, not {days}")
    now = datetime.datetime.now(datetime.UTC)
    try:
        end = now + datetime.timedelta(days=days)
        builder = x509.CertificateBuilder().subject_name(subject).public_key(public_key).serial_number(serial)
        return builder.not_valid_before(now).not_valid_after(end)
    except (OverflowError, ValueError):
        raise Failed(f"-days={days} is too long") from None


def _common_name(name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise Failed(f"{name!r} can't be a certificate's name: {error}") from None


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


# --- the authority --------------------------------------------------------------------------------------------------


def _create_ca(given: Parsed) -> None:
    domain = given.text("domain")
    key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
    name = _common_name(given.text("common-name") or f"Discovery Agent CA {serial:x}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(name, key.public_key(), serial, given.number("days")).issuer_name(name)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if given.flag("name-constraint"):
        names = [*given.texts("additional-name-constraint"), domain, "localhost"]
        permitted = [x509.DNSName(_ascii(constraint)) for constraint in names]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    elif given.texts("additional-name-constraint"):
        raise Failed("-additional-name-constraint requires -name-constraint")
    _save(given, builder.sign(key, hashes.SHA256()), key, f"{domain}-agent-ca")


# --- certificates ---------------------------------------------------------------------------------------------------


def _create_certificate(given: Parsed) -> None:
    role = _role(given)
    if given.text("node") and role != "server":
        raise Failed("-node requires -server")
    domain, datacenter = given.text("domain"), given.text("dc")
    ca_path = given.text("ca").replace("#DOMAIN#", domain)
    key_path = given.text("key").replace("#DOMAIN#", domain)
    ca_data, key_data = file_content(ca_path, "Error reading CA"), file_content(key_path, "Error reading CA key")
    if not as_json(given):
        if role == "server":
            print(_SERVER_WARNING)
        print(f"==> Using {ca_path} and {key_path}")
    authority, signer = _authority(ca_path, ca_data), _signer(key_path, key_data)
    if signer.public_key() != authority.public_key():
        raise Failed(f"{key_path} is not the key of {ca_path}")
    names = _names(given, role, f"{role}.{datacenter}.{domain}")
    _check_constraints(authority, names)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(given, role, names, authority, signer, key.public_key())
    _save(given, certificate, key, _free_stem(f"{datacenter}-{role}-{domain}"))


def _role(given: Parsed) -> str:
    chosen = [role for role in _ROLES if given.flag(role)]
    if len(chosen) != 1:
        raise Failed("Please provide either -server, -client, or -cli")
    return chosen[0]


def _authority(path: str, data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise Failed(f"{path} is no certificate in PEM") from None


def _signer(path: str, data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Failed(f"{path} is no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed(f"{path} is no elliptic curve key")
    return key


def _names(given: Parsed, role: str, common_name: str) -> list[x509.GeneralName]:
    hosts = [*given.texts("additional-dnsname")]
    if given.text("node"):
        hosts.append(f"{given.text('node')}.{common_name}")
    hosts += [common_name, "localhost"]
    addresses = [*given.texts("additional-ipaddress"), *(("127.0.0.1",) if role != "cli" else ())]
    try:
        ips = [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
    except ValueError as error:
        raise Failed(f"-additional-ipaddress: {error}") from None
    return [*(x509.DNSName(_ascii(host)) for host in hosts), *ips]


def _ascii(name: str) -> str:
    if not name or not name.isascii():
        raise Failed(f"{name!r} is no DNS name; names in other scripts are written in their xn-- form")
    return name


def _check_constraints(authority: x509.Certificate, names: list[x509.GeneralName]) -> None:
    """An authority limited to some domains must not sign for others: nobody would accept the certificate."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return
    permitted = [one.value.lower().lstrip(".") for one in constraints if isinstance(one, x509.DNSName)]
    for name in names:
        if isinstance(name, x509.DNSName) and permitted and not _within(name.value.lower(), permitted):
            raise Failed(
                "x509: a root or intermediate certificate is not authorized to sign for this name: "
                f'DNS name "{name.value}" is not permitted by any constraint'
            )


def _within(name: str, domains: list[str]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def _certificate(
    given: Parsed,
    role: str,
    names: list[x509.GeneralName],
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
) -> x509.Certificate:
    subject = _common_name(f"{role}.{given.text('dc')}.{given.text('domain')}")
    builder = _builder(subject, public_key, x509.random_serial_number(), given.number("days"))
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(cast(ec.EllipticCurvePublicKey, authority.public_key()))
    builder = (
        builder.issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    if _USAGES[role]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(_USAGES[role]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _free_stem(stem: str) -> str:
    numbered = (f"{stem}-{number}" for number in itertools.count())
    return next(one for one in numbered if not Path(f"{one}.pem").exists() and not Path(f"{one}-key.pem").exists())


_CA: Final = Group(
    "tls ca",
    "Makes certificate authorities",
    {
        "create": Action(
            "tls ca create [options]",
            "Makes a certificate authority",
            _create_ca,
            (
                FORMAT,
                Flag("days", Kind.INT, "How many days it is valid.", default=1825),
                Flag("domain", help="The domain of the agents.", default="consul"),
                Flag("common-name", help="Name of the authority; otherwise one with its serial number."),
                Flag("name-constraint", Kind.BOOL, "Let it sign only names within the domain, and localhost."),
                Flag("additional-name-constraint", Kind.LIST, "With -name-constraint: a further domain. May be repeated."),
            ),
            "Certificate and key are put into <domain>-agent-ca.pem and <domain>-agent-ca-key.pem.",
        )
    },
    examples=("tls ca create",),
)

_CERT: Final = Group(
    "tls cert",
    "Makes certificates",
    {
        "create": Action(
            "tls cert create [options]",
            "Makes a certificate for an agent",
            _create_certificate,
            (
                FORMAT,
                Flag("server", Kind.BOOL, "For a server."),
                Flag("client", Kind.BOOL, "For a client agent."),
                Flag("cli", Kind.BOOL, "For the command line."),
                Flag("dc", help="The datacenter.", default="dc1"),
                Flag("domain", help="The domain of the agents.", default="consul"),
                Flag("node", help="With -server: also for the name <node>.server.<datacenter>.<domain>."),
                Flag("days", Kind.INT, "How many days it is valid.", default=365),
                Flag("ca", help="Certificate of the authority.", default="#DOMAIN#-agent-ca.pem"),
                Flag("key", help="Key of the authority.", default="#DOMAIN#-agent-ca-key.pem"),
                Flag("additional-dnsname", Kind.LIST, "A further DNS name. May be repeated."),
                Flag("additional-ipaddress", Kind.LIST, "A further IP address. May be repeated."),
            ),
            "Certificate and key are put into <datacenter>-<role>-<domain>-<number>.pem and ...-key.pem, where number is the "
            "first that is free.",
        )
    },
    examples=("tls cert create -server", "tls cert create -client"),
)

TLS: Final = Group(
    "tls",
    "Makes certificate authorities and certificates",
    {"ca": _CA, "cert": _CERT},
    examples=("tls ca create", "tls cert create -server"),
)
