"""NATS users: one per part with just what its duty needs, and the operator who makes streams.

Source: ARCHITECTURE.md, "Events". The topology is the only input; nothing here is decided a second time.
"""

import json
from collections.abc import Mapping
from typing import Final

from dossier_common import topology

OPERATOR: Final = "operator"
"""The user of `dossier streams`: the JetStream API, and no event."""

USERS: Final = (*topology.PARTS, OPERATOR)


def publishes(user: str) -> tuple[str, ...]:
    """Subjects that this user may publish to, requests to the server included."""
    if user == OPERATOR:
        return ("$JS.API.STREAM.>", "$JS.API.CONSUMER.>", "$JS.API.INFO")
    own = (topology.subjects(user), topology.heartbeat_subject(user)) if user in topology.PUBLISHERS else ()
    receipts = (topology.receipt_subject("*"),) if user == "audit" else ()
    followed = tuple(topology.stream(producer) for producer in topology.FOLLOWS[user])
    fetch = tuple(f"$JS.API.CONSUMER.MSG.NEXT.{name}.{user}" for name in followed)
    acknowledge = tuple(f"$JS.ACK.{name}.{user}.>" for name in followed)
    return own + receipts + fetch + acknowledge


def refused(user: str) -> tuple[str, ...]:
    """Subjects that stay refused inside what `publishes` opens: the operator manages streams and reads no event."""
    if user == OPERATOR:
        return (
            "$JS.API.STREAM.MSG.>",
            "$JS.API.CONSUMER.MSG.>",
            "$JS.API.STREAM.PURGE.>",
            "$JS.API.STREAM.SNAPSHOT.>",
            "$JS.API.STREAM.RESTORE.>",
        )
    return ()


def subscribes(user: str) -> tuple[str, ...]:
    """Subjects that this user may subscribe to."""
    receipts = (topology.receipt_subject(user),) if user in topology.PUBLISHERS else ()
    heartbeats = tuple(topology.heartbeat_subject(producer) for producer in topology.FOLLOWS.get(user, ()))
    return (f"{topology.inbox_prefix(user)}.>", *receipts, *heartbeats)


def configuration(passwords: Mapping[str, str]) -> str:
    """The `authorization` block of nats-server's configuration; contains passwords (or their bcrypt digests).

    Raises KeyError for a user without a password.
    """
    users = [
        {
            "user": user,
            "password": passwords[user],
            "permissions": {
                "publish": {"allow": list(publishes(user)), "deny": list(refused(user))},
                "subscribe": {"allow": list(subscribes(user))},
            },
        }
        for user in USERS
    ]
    # nats-server's configuration is a superset of JSON.
    return f"authorization: {json.dumps({'timeout': 5, 'users': users}, indent=2)}\n"
