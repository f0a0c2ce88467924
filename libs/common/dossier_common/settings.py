"""Settings that every part has. Secrets are never values, always names of files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.policy import Policy, load_policy
from dossier_common.tls import Tls

CHECKOUT: Final = Path(__file__).resolve().parents[3]


class CommonSettings(BaseSettings):
    """What is the same for all parts of one deployment; prefix `DOSSIER_`."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_", frozen=True)

    issuer: str = Field(description="Public address of the gateway: issuer and audience of its tokens")
    peers_file: Path = Field(description="JSON: address of each part inside the deployment")
    producer_keys_file: Path = Field(description="JSON: public Ed25519 keys (JWK) of each part")
    policy: Path = Field(description="Policy pack (YAML)")
    api_dir: Path = Field(description="Folder of the OpenAPI files of the parts")
    ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) of the CA by which https addresses of parts, tls:// of NATS and PostgreSQL are "
        "verified; without it, those that the system trusts",
    )
    home: Path | None = Field(
        default=None, description="Folder that is laid out as the checkout, with the migrations; the checkout by itself"
    )

    @cached_property
    def peers(self) -> dict[str, str]:
        """Address of each part, without a slash at the end."""
        return {part: str(url).rstrip("/") for part, url in json.loads(self.peers_file.read_text()).items()}

    @cached_property
    def producer_keys(self) -> dict[str, list[dict[str, Any]]]:
        """Public keys of each part, as JWKs with `kid`."""
        keys: dict[str, list[dict[str, Any]]] = json.loads(self.producer_keys_file.read_text())
        return keys

    @cached_property
    def pack(self) -> Policy:
        """The policy that the file holds. Raises OSError, PolicyError."""
        return load_policy(self.policy)

    @property
    def installed(self) -> Path:
        """The folder that is laid out as the checkout."""
        return self.home or CHECKOUT

    def examine(self) -> None:
        """Raises ValueError, which names the variable, for a file or an address that cannot be used."""
        with fault_of(self, "issuer"):
            _ensure_address(self.issuer, "http", "https")
        with fault_of(self, "peers_file"):
            _ensure_object(self.peers_file)
            for url in self.peers.values():
                _ensure_address(url, "http", "https")
        with fault_of(self, "producer_keys_file"):
            _ensure_object(self.producer_keys_file)
            for part, keys in self.producer_keys.items():
                try:
                    VerifyingKeys(keys)
                except (ValueError, TypeError, AttributeError) as error:
                    raise ValueError(f"{self.producer_keys_file}: the keys of {part} are not Ed25519 JWKs") from error


class PartSettings(BaseSettings):
    """What each part has for itself; subclasses set the prefix `DOSSIER_<PART>_` and add their own."""

    model_config = SettingsConfigDict(frozen=True)

    database_url: str = Field(
        description="postgresql:// address without a password. sslmode: verify-full (certificate and name), verify-ca "
        "(certificate), require (encrypted, but nobody is verified), disable; without it verify-full where "
        "DOSSIER_CA_FILE is set, else plain text"
    )
    database_password_file: Path = Field(description="Password of `<part>_app`")
    database_pool: PositiveInt = Field(default=8, description="Connections to the database, by each process")
    nats_url: str = Field(default="", description="nats:// or tls:// address; empty for a part that publishes nothing")
    nats_password_file: Path | None = Field(default=None, description="Password of the NATS user `<part>`")
    signing_key_file: Path = Field(description="Ed25519 private key (PEM, PKCS 8): signs events and client assertions")
    listen_host: str = Field(default="127.0.0.1", description="Address on which web and worker listen")
    listen_port: PositiveInt = Field(default=8000, description="Port of the web process")
    worker_port: PositiveInt = Field(default=8001, description="Port of the worker: health and metrics")
    tls_certificate_file: Path | None = Field(
        default=None,
        description="Certificate with its chain (PEM): web and worker listen with TLS 1.2 or newer, and show it to "
        "other parts and to NATS; a renewed file is taken within about a minute",
    )
    tls_key_file: Path | None = Field(default=None, description="Unencrypted key (PEM) of that certificate")
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) of the CA of which everybody who connects shows a certificate; at the gateway "
        "who connects to its worker",
    )
    connections_per_address: PositiveInt = Field(default=1024, description="Connections that one address may have open")
    max_body: PositiveInt = Field(default=1 << 20, description="Longest request body, bytes")
    outbox_keep_days: PositiveInt = Field(
        default=7,
        le=13,
        description="Days that a row stays after its receipt (invariant 2); at most 13, since followers know for 14 "
        "what they have handled",
    )
    backlog_seconds: PositiveInt = Field(
        default=900, description="Age of the oldest event without a receipt that stops recorded readings; ×10: changes"
    )
    backlog_rows: PositiveInt = Field(
        default=1_000_000,
        description="Events without a receipt that stop recorded readings; ten times as many: changes",
    )
    common: CommonSettings = Field(default_factory=CommonSettings)  # read from the environment

    @cached_property
    def database_password(self) -> str:
        """Content of the password file."""
        return self.database_password_file.read_text().strip()

    @cached_property
    def tls(self) -> Tls:
        """Contexts of this process."""
        return Tls(
            ca=self.common.ca_file,
            certificate=self.tls_certificate_file,
            key=self.tls_key_file,
            client_ca=self.tls_client_ca_file,
        )

    @cached_property
    def nats_password(self) -> str:
        """Content of the password file, or nothing."""
        return self.nats_password_file.read_text().strip() if self.nats_password_file else ""

    @property
    def part(self) -> str:
        """Name of the part, by the prefix of its variables."""
        return str(self.model_config.get("env_prefix")).removeprefix("DOSSIER_").rstrip("_").lower()

    def examine(self) -> None:
        """Raises ValueError, which names the variable, for a file or an address that cannot be used.

        Subclasses add what they have of their own. Nothing is connected to.
        """
        self.common.examine()
        for name in ("database_password_file", "nats_password_file"):
            with fault_of(self, name):
                ensure_secret(getattr(self, name))
        with fault_of(self, "signing_key_file"):
            key = SigningKey.read(self.signing_key_file)
            published = self.common.producer_keys.get(self.part)
            if published and key.public_jwk()["x"] not in {each.get("x") for each in published}:
                raise ValueError(f"{self.signing_key_file} has no public key in DOSSIER_PRODUCER_KEYS_FILE")
        with fault_of(self, "database_url"):
            self._ensure_database()
        if self.nats_url:
            with fault_of(self, "nats_url"):
                _ensure_address(self.nats_url, "nats", "tls")
        with fault_of(self, "tls_certificate_file"):
            self.tls.examine()

    def _ensure_database(self) -> None:
        try:
            url = make_url(self.database_url)
        except (ArgumentError, ValueError) as error:
            raise ValueError("not a postgresql:// address") from error
        if url.drivername != "postgresql" or not url.username or not url.database:
            raise ValueError("not an address as postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full")
        if url.password is not None:
            raise ValueError("the password stands in the file that DATABASE_PASSWORD_FILE names, not in the address")
        if unknown := set(url.query) - {"host", "port", "sslmode"}:
            raise ValueError(f"{', '.join(sorted(unknown))} is not known here: only host, port and sslmode are")
        self.tls.database(url)


S = TypeVar("S", bound=PartSettings)


def load(cls: type[S]) -> S:
    """Settings from the environment, examined; ends the process with one line that names what is missing or wrong."""
    try:
        settings = cls()  # read from the environment
        settings.examine()
    except ValidationError as error:
        prefix = (CommonSettings if error.title == CommonSettings.__name__ else cls).model_config.get("env_prefix", "")
        faults = "; ".join(f"{_name(prefix, e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
        raise SystemExit(f"{cls.__module__}: settings are not valid: {faults}") from error
    except (SettingsError, ValueError) as error:
        raise SystemExit(f"{cls.__module__}: settings are not valid: {error}") from error
    return settings


@contextmanager
def fault_of(settings: BaseSettings, name: str) -> Iterator[None]:
    """What is wrong with this setting's file or address is told as one line that begins with its variable."""
    variable = _name(str(settings.model_config.get("env_prefix")), (name,))
    try:
        yield
    except OSError as error:
        raise ValueError(f"{variable}: cannot read {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from error


def ensure_secret(file: Path | None) -> None:
    """Raises OSError, or ValueError for a file without a secret in it."""
    if file is not None and not file.read_bytes().strip():
        raise ValueError(f"{file} is empty")


def _ensure_object(file: Path) -> None:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: not JSON") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: not a JSON object")  # noqa: TRY004  # a wrong file, not a wrong type


def _ensure_address(url: object, *schemes: str) -> None:
    parts = urlsplit(str(url))
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"not an address that begins with {' or '.join(f'{each}://' for each in schemes)}")


def _name(prefix: str, place: tuple[int | str, ...]) -> str:
    return (prefix + ".".join(map(str, place))).upper()
