"""The worker of the retention service: its relay, and its consumers of records, approvals and the gateway."""

from collections.abc import Mapping
from typing import cast

from dossier_common import worker
from dossier_common.startup import prepared
from dossier_common.worker import Context, Job
from dossier_retention.consumers import handlers
from dossier_retention.settings import Settings


def jobs(context: Context) -> Mapping[str, Job]:
    """What runs in this process."""
    settings = cast("Settings", context.settings)
    policy = settings.common.pack
    applied = handlers(policy, context.clock, context.key, settings.backup_horizon_days)
    return {**worker.follow(context, applied.apply), "relay": context.relay().run}


if __name__ == "__main__":
    worker.run("retention", prepared(Settings), jobs)
