"""`python -m dossier_witness`."""

from dossier_witness.main import app

app(prog_name="dossier-witness")
