"""Alembic's environment for the approvals service."""

from dossier_approvals.models import Base
from dossier_common import migrations

migrations.run(Base.metadata, "approvals")
