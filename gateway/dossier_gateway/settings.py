"""The gateway's own settings."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from dossier_common.door import Limits
from dossier_common.settings import PartSettings, ensure_secret, fault_of

Network = IPv4Network | IPv6Network


class Settings(PartSettings):
    """Prefix `DOSSIER_GATEWAY_`."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_GATEWAY_", frozen=True)

    token_key_file: Path = Field(
        description="Keys that sign tokens, and nothing else: an Ed25519 private key (PEM, PKCS 8), or the ring that "
        "`keys rotate` makes of it"
    )
    forwarded_body: PositiveInt = Field(default=32 << 20, description="Longest request body that is forwarded, bytes")
    access_token_minutes: PositiveInt = Field(default=10, le=60, description="How long an access token lasts")
    session_hours: PositiveInt = Field(default=9, le=24 * 30, description="How long a sign-in with a browser lasts")
    session_idle_minutes: PositiveInt = Field(
        default=60, le=24 * 60, description="After how long a sign-in ends that no code and no token is asked for with"
    )
    refresh_days: PositiveInt = Field(default=1, le=90, description="How long refresh tokens last, rotated or not")
    enrolment_days: PositiveInt = Field(default=7, le=90, description="How long an enrolment code lasts")
    zones: dict[Network, str] = Field(
        default={IPv4Network("127.0.0.0/8"): "office", IPv6Network("::1/128"): "office"},
        description="JSON: network → name of its zone; the narrowest network that holds the address counts",
    )
    other_zone: str = Field(default="internet", description="Zone of an address that is in none of the networks")
    trusted_proxies: tuple[Network, ...] = Field(
        default=(), description="JSON: networks whose X-Forwarded-For is believed"
    )
    calls_per_second: PositiveFloat = Field(
        default=2000, description="Steady rate of one person, by all his accounts and tokens, at one replica"
    )
    calls_at_once: PositiveInt = Field(default=4000, description="What may come at once above the steady rate")
    client_calls_per_second: PositiveFloat = Field(default=4000, description="Steady rate of all tokens of one client")
    client_calls_at_once: PositiveInt = Field(default=8000, description="What may come at once above that")
    address_calls_per_second: PositiveFloat = Field(default=4000, description="Steady rate of one address")
    address_calls_at_once: PositiveInt = Field(default=8000, description="What may come at once above that")
    sign_ins_per_second: PositiveFloat = Field(default=5, description="Steady rate of sign-ins from one address")
    sign_ins_at_once: PositiveInt = Field(default=100, description="What may come at once above that")
    upstream_seconds: PositiveFloat = Field(default=35, description="Longest silence of a part that is being asked")
    upstream_connections: PositiveInt = Field(default=128, description="Connections to one part, by one replica")
    call_seconds: PositiveFloat = Field(default=60, description="Longest time of a forwarded call, all in all")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="JSON: exact origins whose scripts may call the API, without cookies; none by default"
    )
    audit_log_vkey: str | None = Field(default=None, description="vkey of the audit log, for the well-known metadata")
    audit_log_vkey_file: Path | None = Field(default=None, description="File with that vkey, in its place")
    hashes_at_once: PositiveInt = Field(default=2, description="Argon2id computations side by side, 64 MiB each")

    def examine(self) -> None:
        """Of its own: the vkey of the log. The keys of tokens are read by who signs with them."""
        super().examine()
        with fault_of(self, "audit_log_vkey_file"):
            if self.audit_log_vkey_file is not None and self.audit_log_vkey is not None:
                raise ValueError("stands in the place of DOSSIER_GATEWAY_AUDIT_LOG_VKEY: both are set")
            ensure_secret(self.audit_log_vkey_file)

    @cached_property
    def log_vkey(self) -> str | None:
        """Key of the audit log, as a vkey, if it is known here. Raises OSError."""
        file = self.audit_log_vkey_file
        return self.audit_log_vkey if file is None else file.read_text(encoding="utf-8").strip()

    @cached_property
    def limits(self) -> Limits:
        """What a connection may take; less than at the parts, which get what is forwarded and a little more."""
        return Limits(
            head_bytes=64 * 1024,
            head_fields=100,
            per_address=self.connections_per_address,
            exempt=self.trusted_proxies,
        )

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
