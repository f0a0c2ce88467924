"""Settings of the audit service."""

from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings


class Settings(PartSettings):
    """Prefix `DOSSIER_AUDIT_`; the signing key signs receipts too."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_AUDIT_", frozen=True)
