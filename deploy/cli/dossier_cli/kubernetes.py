"""The Secrets and ConfigMaps that the Helm chart refers to, made of files: `dossier kubernetes-secrets FOLDER`.

Everything is printed, and nothing is sent anywhere: `kubectl apply --filename -` takes it, and so does whatever seals
Secrets for a repository. Each process's Secret holds what that part needs, and no other part's.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dossier_cli.accounts import OPERATOR
from dossier_cli.certificates import USES
from dossier_cli.secret_files import LOG_KEY, LOG_VKEY, NATS_ACCOUNTS, PRODUCER_KEYS, read
from dossier_common.topology import PARTS

PREFIX: Final = "dossier"
"""The names begin with it, as they do in the chart's values."""
SUPERUSER: Final = "postgres-superuser"
OWN: Final = {"gateway": "gateway-token-key.pem", "records": "records-keyring-passphrase", "audit": LOG_KEY}
"""What one part has beside what each has."""


def manifests(secrets: Path, certificates: Path | None, namespace: str | None) -> dict[str, Any]:
    """All of them, as one list. Raises Refused for a file that is not there."""
    items = [*_of_secrets(secrets), *(_of_certificates(certificates) if certificates else ())]
    if namespace:
        for item in items:
            item["metadata"]["namespace"] = namespace
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _of_secrets(folder: Path) -> Iterator[dict[str, Any]]:
    for part in PARTS:
        names = [f"postgres-{part}-app", f"nats-{part}", f"{part}-signing-key.pem"]
        yield _secret(part, folder, [*names, *([OWN[part]] if part in OWN else ())])
    yield _secret("migrators", folder, [f"postgres-{part}-migrator" for part in PARTS])
    yield _secret("nats-operator", folder, [f"nats-{OPERATOR}"])
    yield _secret("nats-accounts", folder, [NATS_ACCOUNTS])
    if (folder / SUPERUSER).exists():  # who has none leaves databases and roles to their administrator
        yield _secret(SUPERUSER, folder, [SUPERUSER])
    yield _config_map("public", {name: read(folder / name) for name in (PRODUCER_KEYS, LOG_VKEY)})


def _of_certificates(folder: Path) -> Iterator[dict[str, Any]]:
    authority = read(folder / "ca.pem")
    yield _config_map("ca", {"ca.pem": authority})
    for name in USES:
        pair = {"tls.crt": read(folder / f"{name}.pem"), "tls.key": read(folder / f"{name}-key.pem")}
        yield _made("Secret", f"{name}-tls", pair | {"ca.crt": authority}) | {"type": "kubernetes.io/tls"}


def _secret(name: str, folder: Path, files: list[str]) -> dict[str, Any]:
    return _made("Secret", name, {file: read(folder / file) for file in files}) | {"type": "Opaque"}


def _made(kind: str, name: str, content: dict[str, bytes]) -> dict[str, Any]:
    data = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": f"{PREFIX}-{name}"}, "data": data}


def _config_map(name: str, content: dict[str, bytes]) -> dict[str, Any]:
    data = {key: value.decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{PREFIX}-{name}"}, "data": data}
