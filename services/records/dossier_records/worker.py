"""Composition root of the worker of the records service: relay, consumers, imports, destruction."""

from collections.abc import Mapping
from functools import partial

from dossier_common import worker
from dossier_common.startup import ensure_writable, prepared
from dossier_records import imports
from dossier_records.consumers import handlers
from dossier_records.keyring import FileKeyring, ensure_opens
from dossier_records.service import Desk, handing_over
from dossier_records.settings import Settings
from dossier_records.shredding import Shredder
from dossier_records.vault import Vault


def jobs(keyring: FileKeyring, context: worker.Context) -> Mapping[str, worker.Job]:
    """What this worker does."""
    settings = context.settings
    assert isinstance(settings, Settings)
    policy = settings.common.pack
    desk = Desk(policy, Vault(keyring, settings.cipher, settings.ring_buckets, policy), context.clock)
    return {
        "relay": context.relay().run,
        "imports": partial(imports.run, context.database, desk),
        "handovers": partial(handing_over.run, context.database, desk),
        "shredder": Shredder(context.database, desk, settings.supplement_dir).run,
        **worker.follow(context, handlers.apply),
    }


def ensure_supplements(settings: Settings) -> None:
    """Raises ValueError where no key supplement could be written, without which nothing may be destroyed."""
    ensure_writable("DOSSIER_RECORDS_SUPPLEMENT_DIR", settings.supplement_dir)


if __name__ == "__main__":
    from_environment = prepared(Settings, ensure_opens, ensure_supplements)
    opened = FileKeyring(from_environment.keyring_dir, from_environment.keyring_passphrase)
    worker.run("records", from_environment, partial(jobs, opened), lacking=opened.lacking)
