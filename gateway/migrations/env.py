"""Alembic environment of the gateway."""

from dossier_common import migrations
from dossier_gateway.models import Base

migrations.run(Base.metadata, "gateway")
