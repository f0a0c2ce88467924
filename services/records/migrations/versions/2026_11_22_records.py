"""Records, versions, key rings, blind indexes, grants, copies, imports, destruction orders, lists of custody.

Revision ID: 2026_11_22_records
"""

from alembic import op

from dossier_common import migrations
from dossier_records.models import Base

revision = "2026_11_22_records"
down_revision = None

_ONLY_UNDER_AN_OPEN_EPOCH = """
CREATE FUNCTION only_under_an_open_epoch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM ring_epochs WHERE ring = NEW.ring AND epoch = NEW.key_epoch AND state = 'open' FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'epoch % of ring % is not open', NEW.key_epoch, NEW.ring USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$
"""


def upgrade() -> None:
    """Creates the tables, and refuses versions under an epoch that is closing."""
    migrations.create_tables(Base.metadata, "records")
    op.execute(_ONLY_UNDER_AN_OPEN_EPOCH)
    op.execute(
        "CREATE TRIGGER only_under_an_open_epoch BEFORE INSERT OR UPDATE OF ring, key_epoch ON record_versions "
        "FOR EACH ROW EXECUTE FUNCTION only_under_an_open_epoch()"
    )
    migrations.revoke("records", "DELETE", "records")
    migrations.revoke("copies", "DELETE", "records")
    migrations.revoke("ring_epochs", "DELETE", "records")
    migrations.revoke("destruction_orders", "DELETE", "records")
    migrations.revoke("custody_handovers", "DELETE", "records")
    migrations.revoke("custody_items", "UPDATE, DELETE", "records")
