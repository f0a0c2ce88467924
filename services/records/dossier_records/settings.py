"""Settings of the records service; prefix `DOSSIER_RECORDS_`."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings, ensure_secret, fault_of


class Settings(PartSettings):
    """Database, NATS, keys (see PartSettings), and the key provider."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_RECORDS_", frozen=True)

    keyring_dir: Path = Field(description="Folder of the `file` key provider; never in PostgreSQL, never in its backup")
    keyring_passphrase_file: Path = Field(description="Passphrase that seals the keys in that folder")
    supplement_dir: Path = Field(description="Folder of the backup set that takes the key supplements")
    cipher: Literal["AES-256-GCM", "SM4-GCM"] = Field(
        default="AES-256-GCM", description="How new content is sealed; older content keeps the cipher that it names"
    )
    ring_buckets: PositiveInt = Field(default=16, le=256, description="Key rings per secrecy level")
    projection_stale_seconds: PositiveFloat = Field(
        default=2, description="How far grants may be behind the approvals service before they are asked of it"
    )
    max_import: PositiveInt = Field(default=16 << 20, description="Longest spreadsheet, bytes")

    def examine(self) -> None:
        """Of its own: there is a passphrase. Whether it opens the key ring, `keyring.ensure_opens` finds out."""
        super().examine()
        with fault_of(self, "keyring_passphrase_file"):
            ensure_secret(self.keyring_passphrase_file)

    @cached_property
    def keyring_passphrase(self) -> bytes:
        """Content of the passphrase file."""
        return self.keyring_passphrase_file.read_bytes().strip()
