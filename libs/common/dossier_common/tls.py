"""TLS of one process: the context that it listens with, and the one that it calls others with.

TLS 1.2 and newer, forward secrecy, authenticated encryption. What a client connects to is verified by certificate and
by name, without exception but the one that an operator writes out (`sslmode=require` or `verify-ca` of PostgreSQL).
"""

import asyncio
import ssl
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from sqlalchemy import URL

from dossier_common import telemetry
from dossier_common.clock import SystemClock

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of TLS 1.3 are all of this kind."""
LOOK_EVERY: Final = 60.0
SOON: Final = timedelta(days=21)
"""Before its end a certificate is warned of; whoever renews them by himself has done so by then."""
MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""What `sslmode` of a database's address may be; `allow` would mean nothing."""


class Tls:
    """Contexts of one process, made when first asked for from files in PEM, and kept up to date by `follow`.

    Without `ca`, servers are verified by the certificates that the system trusts.
    """

    def __init__(
        self,
        *,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        client_ca: Path | None = None,
    ) -> None:
        self._ca, self._certificate, self._key, self._client_ca = ca, certificate, key, client_ca
        self._made: list[tuple[ssl.SSLContext, Path | None]] = []

    def examine(self) -> None:
        """Raises OSError, or ValueError with a line that names the file, for what no context can be made of."""
        if (self._certificate is None) != (self._key is None):
            raise ValueError("TLS_CERTIFICATE_FILE and TLS_KEY_FILE are set both or neither")
        if self._client_ca is not None and self._certificate is None:
            raise ValueError("TLS_CLIENT_CA_FILE needs TLS_CERTIFICATE_FILE and TLS_KEY_FILE")
        for ca in (self._ca, self._client_ca):
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca)

    @cached_property
    def server(self) -> ssl.SSLContext | None:
        """For listening to parts, with a client certificate where there is a CA of theirs; None for plain text."""
        return self._server(self._client_ca)

    @cached_property
    def public_server(self) -> ssl.SSLContext | None:
        """For listening to anybody, who needs no certificate; None for plain text."""
        return self._server(None)

    @cached_property
    def client(self) -> ssl.SSLContext:
        """For calling: verifies certificate and name, and presents this part's certificate where it has one."""
        return self._client()

    def database(self, url: URL) -> ssl.SSLContext | bool:
        """What `asyncpg.connect(ssl=…)` takes for this address; False for plain text.

        `sslmode=verify-full` verifies certificate and name, `verify-ca` the certificate, `require` neither. Without
        a mode, or with `prefer`, it is `verify-full` where a CA is set, else plain text: never what an attacker would
        like best. A Unix socket has no TLS. Raises ValueError for a mode that is none of these.
        """
        mode = cast("str", url.query.get("sslmode", "prefer"))
        if mode not in MODES:
            raise ValueError(f"sslmode is one of {', '.join(MODES)}")
        if mode == "verify-ca" and self._ca is None:
            raise ValueError("sslmode=verify-ca needs DOSSIER_CA_FILE: anybody has a certificate of a public CA")
        if mode == "prefer":
            mode = "disable" if self._ca is None else "verify-full"
        if mode == "disable" or cast("str", url.query.get("host") or url.host or "/").startswith("/"):
            return False
        # Not `client`: httpx tells that one to speak of HTTP (ALPN), and PostgreSQL 17 and newer then hangs up.
        context = self._client()
        if mode != "verify-full":
            context.check_hostname = False
        if mode == "require":
            context.verify_mode = ssl.CERT_NONE
        return context

    async def follow(self) -> None:
        """Takes renewed files for new connections, within about a minute. A CA that was trusted once stays trusted.

        Files that cannot be used are said in the log, and change nothing. What ends soon is said once a day.
        """
        seen, said, warned = self._stamps(), "", date.min
        while True:
            warned = self._warned(SystemClock().now(), warned)
            await asyncio.sleep(LOOK_EVERY)
            stamps = self._stamps()
            if stamps == seen:
                continue
            try:
                self.renew()
            except (OSError, ValueError) as error:
                if said != (said := str(error)):  # once, not every minute
                    telemetry.log().error("certificate-unusable", reason=said)
                continue
            seen, said = stamps, ""
            telemetry.log().info("certificate-renewed")

    def _warned(self, now: datetime, before: date) -> date:
        """The day of the last warning, after today's where one is due."""
        if before == now.date():
            return before
        # A chain ends with its first certificate; of several CAs, as while one follows another, the last one counts.
        for file, end in {self._certificate: min, self._ca: max, self._client_ca: max}.items():
            try:
                kept = x509.load_pem_x509_certificates(file.read_bytes()) if file is not None else []
            except (OSError, ValueError):  # `renew` says so
                continue
            if kept and (ends := end(each.not_valid_after_utc for each in kept)) - now < SOON:
                telemetry.log().warning("certificate-ends", file=file and file.name, at=ends.isoformat())
                before = now.date()
        return before

    def renew(self) -> None:
        """Loads the files into the contexts that are in use. Raises as `examine`; then the former ones stay."""
        self.examine()
        for context, ca in self._made:
            self._load(context, ca)

    def _server(self, client_ca: Path | None) -> ssl.SSLContext | None:
        if self._certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._kept(context, client_ca)

    def _client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers(CIPHERS)
        if self._ca is None:
            context.load_default_certs()
        return self._kept(context, self._ca)

    def _kept(self, context: ssl.SSLContext, ca: Path | None) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context, ca)
        self._made.append((context, ca))
        return context

    def _load(self, context: ssl.SSLContext, ca: Path | None) -> None:
        if ca is not None:
            ca.read_bytes()  # else the error would not name the file
            try:
                context.load_verify_locations(ca)
            except ssl.SSLError as error:
                raise ValueError(f"{ca}: no certificates in PEM") from error
        if self._certificate is None or self._key is None:
            return
        for file in (self._certificate, self._key):
            file.read_bytes()
        try:
            context.load_cert_chain(self._certificate, self._key, password="")  # asks nobody for a passphrase
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(f"{self._key}: not the key of the certificate in {self._certificate}") from error
            raise ValueError(
                f"{self._certificate}, {self._key}: not a certificate and its unencrypted key in PEM"
            ) from error

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(file) for file in (self._ca, self._certificate, self._key, self._client_ca) if file is not None]


def reason_of(error: BaseException | None) -> str | None:
    """What TLS found wrong, in its own words and without an address; None for what is no failure of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "certificate verify failed"
    if isinstance(error, ssl.SSLError):
        return str(error.reason or type(error).__name__).lower().replace("_", " ")
    return None


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
