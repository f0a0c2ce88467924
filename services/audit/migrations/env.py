from dossier_audit.models import Base
from dossier_common import migrations

migrations.run(Base.metadata, "audit")
