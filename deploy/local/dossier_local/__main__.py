"""`python -m dossier_local`."""

from dossier_local.main import run

run()
