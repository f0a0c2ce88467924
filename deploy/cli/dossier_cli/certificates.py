"""Certificates inside a deployment, by a CA of its own: `dossier certificates FOLDER --host NAME`.

One CA (`ca.pem`, `ca-key.pem`, ten years), and for each server and client `<name>.pem` and `<name>-key.pem`, EC P-256,
825 days. What is missing is made; what ends within 60 days, or lacks a name that is asked for, is made again for the
same key, so that whoever reads certificate and key meanwhile has a pair. The CA, and what another CA has certified, is
never touched. Profile: RFC 5280.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dossier_cli.errors import Refused
from dossier_cli.secret_files import prepare, read, write
from dossier_common.topology import PARTS

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
USES: Final[Mapping[str, tuple[x509.ObjectIdentifier, ...]]] = {
    **dict.fromkeys(PARTS, (SERVER, CLIENT)),
    "nats": (SERVER,),
    "postgres": (SERVER,),
    "prometheus": (CLIENT,),
    "operator": (CLIENT,),
}
"""What each certificate may be used for: whoever has the key of a server alone is no client of the parts."""
CA_DAYS: Final = 3653
DAYS: Final = 825
RENEW_DAYS: Final = 60
SKEW: Final = timedelta(hours=1)
"""A certificate holds from so long ago: clocks differ."""


@dataclass(frozen=True)
class Done:
    """Names of certificates that were made, renewed, or are another CA's and were left."""

    made: tuple[str, ...]
    renewed: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True)
class Authority:
    """The CA, and its key where this folder has it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether this CA has signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def make(folder: Path, hosts: Sequence[str], further: Sequence[str], now: datetime) -> Done:
    """Makes and renews what is needed.

    `hosts` are further names of the gateway; in `further`, names of each server, `{name}` stands for its own.
    Raises Refused for a folder or a file that cannot be used, and where the CA is needed and its key is elsewhere.
    """
    prepare(folder)
    authority, new = _authority(folder, now)
    made: list[str] = ["ca"] if new else []
    renewed: list[str] = []
    left: list[str] = []
    for name, uses in USES.items():
        wanted = _names(name, further, hosts if name == "gateway" else ())
        path = folder / f"{name}.pem"
        present = _certificate(path) if path.exists() else None
        if present is not None and not authority.issued(present):
            left.append(name)
            continue
        there = _names_of(present) if present else []
        lacking = [each for each in wanted if each not in there]
        ending = present is None or present.not_valid_after_utc < now + timedelta(days=RENEW_DAYS)
        key_path = folder / f"{name}-key.pem"
        if lacking or ending or not key_path.exists():
            key = _key(key_path) if key_path.exists() else _new_key(key_path)
            if authority.key is None:
                raise Refused(
                    f"{name}.pem has to be made, and {folder / 'ca-key.pem'} is not there: put it back for it"
                )
            signed = _signed(name, uses, [*there, *lacking], key, authority.certificate, authority.key, now)
            write(path, signed.public_bytes(Encoding.PEM))
            (made if present is None else renewed).append(name)
    return Done(tuple(made), tuple(renewed), tuple(left))


def _names(name: str, further: Sequence[str], hosts: Sequence[str]) -> list[x509.GeneralName]:
    called = (name, f"{name}-worker") if name in PARTS else (name,)
    own = [pattern.replace("{name}", each) for pattern in further for each in called]
    try:
        return [_general(each) for each in dict.fromkeys((*called, "localhost", "127.0.0.1", *own, *hosts))]
    except ValueError as error:
        raise Refused(f"{error}: names of hosts are ASCII, as in DNS") from error


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not name or not all(each.isalnum() or each in "-.*" for each in name) or len(name) > 253:
            raise ValueError(f"{name!r} is no name of a host") from None
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read(path))
    except ValueError as error:
        raise Refused(f"{path}: no certificate in PEM") from error


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused(f"{path}: no unencrypted key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{path}: no key of an elliptic curve")
    return key


def _new_key(path: Path, mode: int = 0o444) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode)
    return key


def _authority(folder: Path, now: datetime) -> tuple[Authority, bool]:
    path, key_path = folder / "ca.pem", folder / "ca-key.pem"
    if path.exists():
        certificate = _certificate(path)
        if certificate.not_valid_after_utc < now + timedelta(days=RENEW_DAYS):
            end = certificate.not_valid_after_utc.date()
            raise Refused(
                f"{path} ends on {end}: put a new CA beside it in all parts' DOSSIER_CA_FILE, then replace it"
            )
        key = _key(key_path) if key_path.exists() else None
        if key is not None and key.public_key() != certificate.public_key():
            raise Refused(f"{key_path} is not the key of {path}")
        return Authority(certificate, key), False
    if key_path.exists():
        raise Refused(f"{key_path} is there and {path} is not: put it back, or remove both to begin anew")
    key = _new_key(key_path, 0o400)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Dossier internal CA {now:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key.public_key(), now, now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )
    write(path, certificate.public_bytes(Encoding.PEM))
    return Authority(certificate, key), True


def _signed(
    name: str,
    uses: Sequence[x509.ObjectIdentifier],
    names: Sequence[x509.GeneralName],
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    end = min(now + timedelta(days=DAYS), ca.not_valid_after_utc)
    return (
        _builder(subject, ca.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
