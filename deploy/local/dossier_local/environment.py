"""What each part finds in its environment: addresses, and names of files with secrets."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dossier_common.topology import PARTS
from dossier_local import keys, witness
from dossier_local.broker import Broker
from dossier_local.postgres import Postgres
from dossier_local.state import CHECKOUT, State

POLICIES: Final = CHECKOUT / "deploy" / "policies"
API_DIR: Final = CHECKOUT / "docs" / "api"
PORTS: Final = (
    *(part for part in PARTS if part != "gateway"),
    *(f"{part}-worker" for part in PARTS),
    "nats",
    witness.PROGRAM,
)
"""Names of the internal ports; the gateway's own is the public one."""


@dataclass(frozen=True)
class Environment:
    """Makes the environment of each part from what is running; the files it names are there when it returns."""

    state: State
    postgres: Postgres
    broker: Broker
    ports: Mapping[str, int]

    @property
    def base_url(self) -> str:
        """The gateway's address, which is the issuer."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def of(self, part: str) -> dict[str, str]:
        """Variables of one part, on top of the launcher's own, so that other settings can be given to `make up`."""
        own = {
            "DATABASE_URL": self.postgres.url(part, "app"),
            "DATABASE_PASSWORD_FILE": self.postgres.password_file(part, "app"),
            "NATS_URL": self.broker.url,
            "NATS_PASSWORD_FILE": self.broker.password_file(part),
            "SIGNING_KEY_FILE": keys.signing_key(self.state, part),
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": self.ports[part],
            "WORKER_PORT": self.ports[f"{part}-worker"],
        }
        if part == "gateway":
            own["TOKEN_KEY_FILE"] = keys.token_key(self.state)
            own["AUDIT_LOG_VKEY"] = witness.log_vkey(self.state, self.base_url)
        if part == "records":
            own["SUPPLEMENT_DIR"] = self.state.supplements
            own["KEYRING_DIR"] = self.state.keyring
            own["KEYRING_PASSPHRASE_FILE"] = keys.keyring_passphrase(self.state)
        if part == "audit":
            own["LOG_KEY_FILE"] = keys.audit_log_key(self.state)
            own["CHECKPOINT_DIR"] = self.state.checkpoints
            own["WITNESSES_FILE"] = witness.witnesses_file(self.state, self.base_url, self.ports[witness.PROGRAM])
        common = {
            "ISSUER": self.base_url,
            "PEERS_FILE": keys.peers(self.state, self.ports),
            "PRODUCER_KEYS_FILE": keys.producer_keys(self.state),
            "POLICY": os.environ.get("DOSSIER_POLICY", POLICIES / "service-desk.yaml"),
            "API_DIR": API_DIR,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return (
            inherited
            | {"TMPDIR": str(self.state.temporary)}  # what a library may write there stays with the rest
            | {f"DOSSIER_{name}": str(value) for name, value in common.items()}
            | {f"DOSSIER_{part.upper()}_{name}": str(value) for name, value in own.items()}
        )


def of_running(state: State) -> Environment:
    """The environment of the stack that runs from this folder. Raises LauncherError when none does."""
    gateway = state.ready()["ports"]["gateway"]
    ports: dict[str, int] = json.loads((state.run / "ports.json").read_text())
    return Environment(state, Postgres(state), Broker(state, ports["nats"]), ports | {"gateway": gateway})
