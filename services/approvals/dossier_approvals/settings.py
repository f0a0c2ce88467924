"""Settings of the approvals service: those that every part has."""

from pydantic_settings import SettingsConfigDict

from dossier_common.settings import PartSettings


class Settings(PartSettings):
    """Prefix `DOSSIER_APPROVALS_`."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_APPROVALS_", frozen=True)
