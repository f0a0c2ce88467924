"""A certificate authority of a test, and what it certifies."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dossier_common.tls import Tls

DAY = timedelta(days=1)


class Authority:
    """A CA in a folder: `ca.pem`, and `<name>.pem` with `<name>-key.pem` of all that it certifies."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        self._key = generate_private_key(SECP256R1())
        self._name = _named("CA of a test")
        builder = self._builder(self._name, self._key, datetime.now(UTC) + DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # noqa: FBT003  # keyCertSign, cRLSign
        self.ca.write_bytes(self._signed(builder.add_extension(usage, critical=True)))

    def certify(self, name: str, *hosts: str, ends: datetime | None = None) -> None:
        """Certificate and key of this name, for these hosts; 127.0.0.1 and localhost without one."""
        key = generate_private_key(SECP256R1())
        names: list[x509.GeneralName] = []
        for host in hosts or ("127.0.0.1", "localhost"):
            try:
                names.append(x509.IPAddress(ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        builder = self._builder(_named(name), key, ends or datetime.now(UTC) + DAY)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        self.certificate(name).write_bytes(self._signed(builder))
        self.key(name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def certificate(self, name: str) -> Path:
        """The file of a certificate."""
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        """The file of its key."""
        return self.folder / f"{name}-key.pem"

    def tls(self, name: str | None = None, *, mutual: bool = False) -> Tls:
        """Contexts of whoever has this name, or none, and trusts this CA."""
        if name is None:
            return Tls(ca=self.ca)
        client_ca = self.ca if mutual else None
        return Tls(ca=self.ca, certificate=self.certificate(name), key=self.key(name), client_ca=client_ca)

    def _builder(self, name: x509.Name, key: EllipticCurvePrivateKey, ends: datetime) -> x509.CertificateBuilder:
        public, authority = key.public_key(), self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(datetime.now(UTC), ends) - DAY)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
