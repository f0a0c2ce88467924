"""Settings of the retention service."""

from pydantic import Field, PositiveInt
from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings


class Settings(PartSettings):
    """Prefix `DOSSIER_RETENTION_`; the signing key signs certificates too."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_RETENTION_", frozen=True)

    backup_horizon_days: PositiveInt = Field(
        default=35, le=36500, description="Days after which no backup from before a destruction is kept any more"
    )
