"""Clocks, holds, disposals and certificates; projections of records, copies and the directory."""

from alembic import op

from dossier_common import migrations
from dossier_retention.models import Base

revision = "2026_11_22_retention"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    migrations.create_tables(Base.metadata, "retention")
    for table in ("records", "clocks", "copies", "holds", "disposals"):
        migrations.revoke(table, "DELETE", "retention")
    migrations.revoke("holds", "UPDATE", "retention")
    op.execute("GRANT UPDATE (released_by, released_at, release_reason) ON holds TO retention_app")
    migrations.append_only(("certificates", "participants"), "retention")  # the register, and who took part in what
