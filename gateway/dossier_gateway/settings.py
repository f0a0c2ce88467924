"""The gateway's own settings."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings

Network = IPv4Network | IPv6Network


class Settings(PartSettings):
    """Prefix `DOSSIER_GATEWAY_`."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_GATEWAY_", frozen=True)

    token_key_file: Path = Field(description="Ed25519 private key (PEM, PKCS 8) that signs tokens, and nothing else")
    token_retired_keys_file: Path | None = Field(
        default=None, description="JSON list of public JWKs of earlier token keys, whose last tokens still hold"
    )
    forwarded_body: PositiveInt = Field(default=32 << 20, description="Longest request body that is forwarded, bytes")
    access_token_minutes: PositiveInt = Field(default=10, le=60)
    session_hours: PositiveInt = Field(default=9, le=24 * 30, description="How long a sign-in with a browser lasts")
    refresh_days: PositiveInt = Field(default=1, le=90)
    enrolment_days: PositiveInt = Field(default=7, le=90)
    zones: dict[Network, str] = Field(
        default={IPv4Network("127.0.0.0/8"): "office", IPv6Network("::1/128"): "office"},
        description="JSON: network → name of its zone; the narrowest network that holds the address counts",
    )
    other_zone: str = Field(default="internet", description="Zone of an address that is in none of the networks")
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="JSON: networks whose X-Forwarded-For is believed"
    )
    calls_per_second: PositiveFloat = Field(default=2000, description="Steady rate of one account or client")
    calls_at_once: PositiveInt = Field(default=4000, description="What may come at once above the steady rate")
    sign_ins_per_second: PositiveFloat = Field(default=5, description="Steady rate of sign-ins from one address")
    sign_ins_at_once: PositiveInt = 100
    upstream_seconds: PositiveFloat = Field(default=35, description="Longest silence of a part that is being asked")
    upstream_connections: PositiveInt = 128
    audit_log_vkey: str | None = Field(default=None, description="vkey of the audit log, for the well-known metadata")
    hashes_at_once: PositiveInt = Field(default=2, description="Argon2id computations side by side, 64 MiB each")

    @cached_property
    def secure(self) -> bool:
        """Whether people reach the gateway by TLS."""
        return self.common.issuer.startswith("https://")

    def zone_of(self, address: str) -> str:
        """Name of the zone that an address is in."""
        try:
            at = ip_address(address)
        except ValueError:
            return self.other_zone
        within = [net for net in self.zones if at in net]
        return self.zones[max(within, key=lambda net: net.prefixlen)] if within else self.other_zone
