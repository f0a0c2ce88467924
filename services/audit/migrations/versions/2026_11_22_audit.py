"""Leaves and bodies of the producers' events, receipts; append-only.

The application role may SELECT and INSERT; triggers refuse the rest to the owner too, and to each partition by itself:
a trigger on TRUNCATE does not pass from a partitioned table to its partitions.
"""

from alembic import op

from dossier_audit.models import APPEND_ONLY, Base
from dossier_common import migrations

revision = "2026_11_22_audit"
down_revision = None
branch_labels = None
depends_on = None

PARTITIONS = """
CREATE FUNCTION make_body_partitions(first date, months integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  month date := date_trunc('month', first)::date;
  following date;
  partition text;
BEGIN
  FOR i IN 0..months LOOP
    following := (month + interval '1 month')::date;
    partition := 'bodies_' || to_char(month, 'YYYY_MM');
    IF to_regclass(partition) IS NULL THEN
      BEGIN
        EXECUTE format('CREATE TABLE %I PARTITION OF bodies FOR VALUES FROM (%L) TO (%L)',
          partition, month || ' 00:00:00+00', following || ' 00:00:00+00');
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %I '
          'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', partition);
        RETURN NEXT partition;
      EXCEPTION WHEN check_violation THEN
        RAISE WARNING 'bodies_default holds events of %: they stay there', to_char(month, 'YYYY-MM');
      END;
    END IF;
    month := following;
  END LOOP;
END $$
"""

ANNOUNCE = """
CREATE FUNCTION receipt_added() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('receipts', ''); RETURN NULL; END $$
"""


def upgrade() -> None:
    migrations.create_tables(Base.metadata, "audit")
    migrations.append_only(APPEND_ONLY, "audit")
    op.execute("CREATE TABLE bodies_default PARTITION OF bodies DEFAULT")
    op.execute(
        "CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON bodies_default "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(PARTITIONS)
    op.execute("SELECT make_body_partitions((now() AT TIME ZONE 'UTC')::date, 12)")
    op.execute(ANNOUNCE)
    op.execute(
        "CREATE TRIGGER receipt_added AFTER INSERT ON producer_heads "
        "FOR EACH STATEMENT EXECUTE FUNCTION receipt_added()"
    )
