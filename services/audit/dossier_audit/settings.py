"""Settings of the audit service."""

import json
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter
from pydantic_settings import SettingsConfigDict

from dossier_audit import rules
from dossier_common.keys import SigningKey
from dossier_common.settings import PartSettings, fault_of


class WitnessSettings(BaseModel, extra="forbid", frozen=True):
    """A witness: where its `add-checkpoint` is, and the vkey (type 0x04) of its cosignatures."""

    url: str
    vkey: str


class Settings(PartSettings):
    """Prefix `DOSSIER_AUDIT_`; the signing key signs receipts too, the log's key nothing but checkpoints."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_AUDIT_", frozen=True)

    log_key_file: Path = Field(description="Ed25519 private key (PEM, PKCS 8): signs checkpoints of the log")
    checkpoint_dir: Path | None = Field(
        default=None, description="Folder outside the database into which each checkpoint is copied before it is shown"
    )
    witnesses_file: Path | None = Field(default=None, description="JSON: url and vkey of each witness")
    silence_seconds: float = Field(default=60, gt=0, description="After this long without news a producer is silent")

    def examine(self) -> None:
        """Of its own: the key of the log, and who its witnesses are."""
        super().examine()
        with fault_of(self, "log_key_file"):
            SigningKey.read(self.log_key_file)
        with fault_of(self, "witnesses_file"):
            try:
                _ = self.witnesses
            except ValueError as error:  # its text repeats what was read, over several lines
                raise ValueError(f"{self.witnesses_file}: not a JSON list of witnesses with url and vkey") from error

    @property
    def log_address(self) -> str:
        """Origin of the first log."""
        return rules.address(self.common.issuer)

    @cached_property
    def witnesses(self) -> list[WitnessSettings]:
        """The witnesses that are asked for cosignatures. Raises ValueError for a file that is no such list."""
        if self.witnesses_file is None:
            return []
        return TypeAdapter(list[WitnessSettings]).validate_python(json.loads(self.witnesses_file.read_text()))
