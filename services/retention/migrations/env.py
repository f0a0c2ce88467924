from dossier_common import migrations
from dossier_retention.models import Base

migrations.run(Base.metadata, "retention")
