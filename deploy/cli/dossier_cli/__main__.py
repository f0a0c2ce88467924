"""`python -m dossier_cli`."""

from dossier_cli.main import app

app()
