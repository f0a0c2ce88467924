"""The tables of the approvals service.

Nothing is deleted here. What was asked and decided cannot be changed by the service either: it may set the state of
a request, a step, a grant and an emergency access, take out a candidate who left, and no more.
"""

from alembic import op

from dossier_approvals.models import Base
from dossier_common import migrations

revision = "2026_11_22_approvals"
down_revision = None
branch_labels = None
depends_on = None

FINAL = ("request_records", "participants", "decisions", "emergency_reviews")
CHANGING = {
    "requests": "state, round, position, ended_at",
    "request_stages": "needed, vacant_since",
    "candidates": "removed_at",
    "steps": "state, due_at, escalated_at, closed_at",
    "grants": "state, uses_counted, ended_at, end_reason",
    "grant_records": "gone_at",
    "emergencies": "overdue_at, reviewed_at",
}


def upgrade() -> None:
    """Creates all tables and narrows what the service may do to them."""
    migrations.create_tables(Base.metadata, "approvals")
    for table in FINAL:
        migrations.revoke(table, "UPDATE, DELETE", "approvals")
    for table, columns in CHANGING.items():
        migrations.revoke(table, "UPDATE, DELETE", "approvals")
        op.execute(f"GRANT UPDATE ({columns}) ON {table} TO approvals_app")
