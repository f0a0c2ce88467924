"""The gateway's tables."""

from alembic import op

from dossier_common import migrations
from dossier_gateway.models import Base

revision = "2026_11_22_gateway"
down_revision = None
branch_labels = None
depends_on = None

KEPT = ("units", "accounts", "qualifications", "clients", "partners", "partner_qualifications", "authorisations")
"""Nothing of these is ever deleted: events and other parts name it."""


def upgrade() -> None:
    """Creates all tables, and takes from the application what it has no use for."""
    migrations.create_tables(Base.metadata, "gateway")
    for table in KEPT:
        migrations.revoke(table, "DELETE", "gateway")
    migrations.revoke("assignments", "UPDATE", "gateway")
    migrations.revoke("offboardings", "UPDATE, DELETE", "gateway")
    migrations.revoke("policy_versions", "UPDATE, DELETE", "gateway")
    op.execute("GRANT UPDATE (state, activated_at) ON policy_versions TO gateway_app")
    migrations.revoke("policy_decisions", "UPDATE, DELETE", "gateway")
