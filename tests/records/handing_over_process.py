"""The part of the worker that hands custody over, in a process of its own that a test can kill."""

import asyncio
import sys

from dossier_common.clock import SystemClock
from dossier_common.database import Database
from dossier_common.policy import load_policy
from dossier_common.settings import load
from dossier_records.keyring import FileKeyring
from dossier_records.service import Desk, handing_over
from dossier_records.settings import Settings
from dossier_records.vault import Vault


async def main(batch: int) -> None:
    """Works off handovers in batches of this size, until it is killed."""
    handing_over.BATCH = batch  # type: ignore[misc]  # small, so that it is killed in the midst
    settings = load(Settings)
    policy = load_policy(settings.common.policy)
    keyring = FileKeyring(settings.keyring_dir, settings.keyring_passphrase)
    desk = Desk(policy, Vault(keyring, settings.cipher, settings.ring_buckets, policy), SystemClock())
    await handing_over.run(Database(settings), desk)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
