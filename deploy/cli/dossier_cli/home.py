"""Where the files lie that a deployment is run from: migrations, policies, OpenAPI documents."""

import os
from pathlib import Path


def home() -> Path:
    """The folder that DOSSIER_HOME names (in the image), or the checkout that this file belongs to."""
    named = os.environ.get("DOSSIER_HOME")
    return Path(named) if named else Path(__file__).resolve().parents[3]


def part_folder(part: str) -> Path:
    """The folder of a part: `alembic.ini` and `migrations/` are in it."""
    return home() / part if part == "gateway" else home() / "services" / part
