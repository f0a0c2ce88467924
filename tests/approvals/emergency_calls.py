"""Calls about emergency access, as the gateway would forward them."""

from typing import Any
from uuid import UUID

import httpx
from tests.approvals.world import Who, World, good
from tests.support.tokens import txn_token

USE = ("emergency:use", "requests:create", "requests:read", "grants:read")
REVIEW = ("emergency:review", "requests:read", "requests:decide")
QUALIFIED = ("confidentiality_agreement", "training_passed")
REASON = "客户王小明在现场晕倒, 需联系家属 13912345678"
PATH = "/v1/emergency-access"


def plea(record: UUID, /, **parts: Any) -> dict[str, Any]:
    body = {"record": str(record), "purpose": "service", "reason": REASON, "fields": ["phone"]} | parts
    return {name: part for name, part in body.items() if part is not None}


async def call(
    world: World,
    who: Who | None,
    method: str,
    path: str,
    body: Any = None,
    *,
    scopes: tuple[str, ...] = USE,
    **claims: Any,
) -> httpx.Response:
    """A call as the gateway would forward it, with what it says of the person."""
    claims = {"clearance": "confidential", "qualifications": QUALIFIED} | claims
    if who is not None:
        claims |= {"account": who.account, "person": who.person}
    token = txn_token(world.keys, "approvals", scopes, at=world.clock.now(), **claims)
    return await world.http.request(method, path, json=body, headers={"Txn-Token": token})


async def use(world: World, who: Who | None, record: UUID, **claims: Any) -> httpx.Response:
    return await call(world, who, "POST", PATH, plea(record), **claims)


async def used(world: World, who: Who, record: UUID | None = None) -> dict[str, Any]:
    return good(await use(world, who, record or world.record()), 201)


async def review(
    world: World, who: Who | None, emergency: dict[str, Any], verdict: str = "justified", **claims: Any
) -> httpx.Response:
    body = {"verdict": verdict, "comment": "已电话核实"}
    return await call(world, who, "POST", f"{PATH}/{emergency['id']}/review", body, scopes=REVIEW, **claims)


async def shown(world: World, who: Who, emergency: dict[str, Any], scopes: tuple[str, ...] = USE) -> dict[str, Any]:
    return good(await call(world, who, "GET", f"{PATH}/{emergency['id']}", scopes=scopes))


def types(events: list[Any]) -> list[str]:
    return [event.type.removeprefix("approvals.v1.") for event in events]


async def ids(world: World, who: Who | None, scopes: tuple[str, ...], query: str = "", **claims: Any) -> list[str]:
    answer = await call(world, who, "GET", f"{PATH}?{query}", scopes=scopes, **claims)
    return [each["id"] for each in good(answer)["items"]]
