"""Alembic environment of the records service."""

from dossier_common import migrations
from dossier_records.models import Base

migrations.run(Base.metadata, "records")
