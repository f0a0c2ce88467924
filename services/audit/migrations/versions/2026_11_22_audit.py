"""Leaves and bodies of the producers' events, receipts, and the log over them; append-only.

The application role may SELECT and INSERT; triggers refuse the rest to the owner too, and to each partition by itself:
a trigger on TRUNCATE does not pass from a partitioned table to its partitions. A body alone may be changed, into the
stub that an erasure leaves, when a row of `erasures` says by which order.
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

ERASURE = (
    """
CREATE FUNCTION refuse_change_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.salt IS NULL AND NEW.body IS NULL
    AND num_nulls(NEW.actor, NEW.person, NEW.client, NEW.subject, NEW.record, NEW.records, NEW.txn) = 7
    AND (NEW.time, NEW.producer, NEW.epoch, NEW.seq, NEW.id, NEW.type) =
      (OLD.time, OLD.producer, OLD.epoch, OLD.seq, OLD.id, OLD.type)
    AND NEW.outcome IS NOT DISTINCT FROM OLD.outcome
    AND EXISTS (SELECT FROM erasures e WHERE (e.producer, e.epoch, e.seq) = (OLD.producer, OLD.epoch, OLD.seq))
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'table bodies is append-only' USING ERRCODE = 'insufficient_privilege';
END $$
""",
    """
CREATE FUNCTION erase_body(event uuid, by_order text, erased_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  erased integer;
BEGIN
  INSERT INTO erasures (producer, epoch, seq, "order", at)
    SELECT b.producer, b.epoch, b.seq, by_order, erased_at
    FROM leaves l JOIN bodies b ON (b.time, b.producer, b.epoch, b.seq) = (l.time, l.producer, l.epoch, l.seq)
    WHERE l.id = event AND b.body IS NOT NULL;
  UPDATE bodies b SET salt = NULL, body = NULL, actor = NULL, person = NULL, client = NULL, subject = NULL,
      record = NULL, records = NULL, txn = NULL
    FROM leaves l
    WHERE l.id = event AND (b.time, b.producer, b.epoch, b.seq) = (l.time, l.producer, l.epoch, l.seq)
      AND b.body IS NOT NULL;
  GET DIAGNOSTICS erased = ROW_COUNT;
  RETURN erased;
END $$
""",
    "REVOKE ALL ON FUNCTION erase_body FROM PUBLIC",
    "DROP TRIGGER refuse_change ON bodies",
    """
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON bodies
  FOR EACH ROW EXECUTE FUNCTION refuse_change_but_erasure()
""",
)

ANNOUNCE = """
CREATE FUNCTION receipt_added() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('receipts', ''); RETURN NULL; END $$
"""


def upgrade() -> None:
    migrations.create_tables(Base.metadata, "audit")
    migrations.append_only(APPEND_ONLY, "audit")
    for table in ("log_runs", "log_tiles"):  # hashes cannot be compressed, and are read in parts
        op.execute(f"ALTER TABLE {table} ALTER COLUMN hashes SET STORAGE EXTERNAL")
    for statement in ERASURE:
        op.execute(statement)
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
