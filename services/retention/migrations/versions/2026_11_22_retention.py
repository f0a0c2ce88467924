"""Clocks, holds, disposals and certificates; projections of records, copies and the directory."""

from alembic import op

from dossier_common import migrations
from dossier_retention.models import Base

revision = "2026_11_22_retention"
down_revision = None
branch_labels = None
depends_on = None

REFUSE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$
"""


def upgrade() -> None:
    migrations.create_tables(Base.metadata, "retention")
    for table in ("records", "clocks", "copies", "holds", "disposals"):
        migrations.revoke(table, "DELETE", "retention")
    op.execute(REFUSE)
    for table in ("certificates", "participants"):  # the register of destruction, and who took part in what
        migrations.revoke(table, "UPDATE, DELETE", "retention")
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
