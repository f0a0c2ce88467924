"""Settings of the records service; prefix `DOSSIER_RECORDS_`."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings


class Settings(PartSettings):
    """Database, NATS, keys (see PartSettings), and the key provider."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_RECORDS_", frozen=True)

    keyring_dir: Path = Field(description="Folder of the `file` key provider; never in PostgreSQL, never in its backup")
    keyring_passphrase_file: Path
    supplement_dir: Path = Field(description="Folder of the backup set that takes the key supplements")
    cipher: Literal["AES-256-GCM", "SM4-GCM"] = "AES-256-GCM"
    ring_buckets: PositiveInt = Field(default=16, le=256, description="Key rings per secrecy level")
    projection_stale_seconds: PositiveFloat = Field(
        default=2, description="How far grants may be behind the approvals service before they are asked of it"
    )
    max_import: PositiveInt = Field(default=16 << 20, description="Longest spreadsheet, bytes")

    @cached_property
    def keyring_passphrase(self) -> bytes:
        """Content of the passphrase file."""
        return self.keyring_passphrase_file.read_bytes().strip()
