"""Settings that every part has. Secrets are never values, always names of files."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from dossier_common.tls import Tls


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

    @cached_property
    def peers(self) -> dict[str, str]:
        """Address of each part, without a slash at the end."""
        return {part: str(url).rstrip("/") for part, url in json.loads(self.peers_file.read_text()).items()}

    @cached_property
    def producer_keys(self) -> dict[str, list[dict[str, Any]]]:
        """Public keys of each part, as JWKs with `kid`."""
        keys: dict[str, list[dict[str, Any]]] = json.loads(self.producer_keys_file.read_text())
        return keys


class PartSettings(BaseSettings):
    """What each part has for itself; subclasses set the prefix `DOSSIER_<PART>_` and add their own."""

    model_config = SettingsConfigDict(frozen=True)

    database_url: str = Field(
        description="postgresql:// address without a password. sslmode: verify-full (certificate and name), verify-ca "
        "(certificate), require (encrypted, but nobody is verified), disable; without it verify-full where "
        "DOSSIER_CA_FILE is set, else plain text"
    )
    database_password_file: Path
    database_pool: PositiveInt = 8
    nats_url: str = Field(default="", description="nats:// or tls:// address; empty for a part that publishes nothing")
    nats_password_file: Path | None = None
    signing_key_file: Path = Field(description="Ed25519 private key (PEM, PKCS 8): signs events and client assertions")
    listen_host: str = "127.0.0.1"
    listen_port: PositiveInt = 8000
    worker_port: PositiveInt = 8001
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
        default=7, description="Days that a row stays after its receipt (invariant 2)"
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


S = TypeVar("S", bound=PartSettings)


def load(cls: type[S]) -> S:
    """Settings from the environment; ends the process with one line that names what is missing or wrong."""
    try:
        settings = cls()  # read from the environment
        for secret in (settings.database_password_file, settings.signing_key_file, settings.nats_password_file):
            if secret is not None:
                secret.read_bytes()
        _ensure_json(settings.common)
    except ValidationError as error:
        prefix = (CommonSettings if error.title == CommonSettings.__name__ else cls).model_config.get("env_prefix", "")
        faults = "; ".join(f"{_name(prefix, e['loc'])}: {e['msg']}" for e in error.errors(include_input=False))
        raise SystemExit(f"{cls.__module__}: settings are not valid: {faults}") from error
    except SettingsError as error:
        raise SystemExit(f"{cls.__module__}: settings are not valid: {error}") from error
    except OSError as error:
        raise SystemExit(f"{cls.__module__}: cannot read {error.filename}: {error.strerror}") from error
    return settings


def _ensure_json(common: CommonSettings) -> None:
    for path in (common.peers_file, common.producer_keys_file):
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise SystemExit(f"{path.name}: not JSON") from error
        if not isinstance(content, dict):
            raise SystemExit(f"{path.name}: not a JSON object")


def _name(prefix: str, place: tuple[int | str, ...]) -> str:
    return (prefix + ".".join(map(str, place))).upper()
