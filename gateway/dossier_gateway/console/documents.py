"""One OpenAPI document for all that people and applications can reach, and a page that shows it without scripts."""

import json
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response

from dossier_common.app import router as make_router
from dossier_common.scopes import SERVICE_ONLY
from dossier_common.topology import PARTS
from dossier_gateway.console import pages
from dossier_gateway.settings import Settings

router = make_router(tags=["pages"])
METHODS: Final = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_SERVICE_ONLY = frozenset(map(str, SERVICE_ONLY))


def needed(operation: dict[str, Any]) -> list[frozenset[str]] | None:
    """The scopes that an operation needs, as alternatives; None when it needs no token."""
    security = operation.get("security")
    if security == []:
        return None
    return [frozenset(scope for scopes in each.values() for scope in scopes) for each in security or [{}]]


def is_public(path: str, operation: dict[str, Any]) -> bool:
    """Whether anyone but another part of Dossier may call it."""
    return not path.startswith("/internal/") and not any(each & _SERVICE_ONLY for each in needed(operation) or ())


def described(settings: Settings) -> dict[str, dict[str, Any]]:
    """The OpenAPI documents of the services, as the files in API_DIR say. Raises OSError, ValueError."""
    folder = settings.common.api_dir
    return {part: json.loads((folder / f"{part}.json").read_bytes()) for part in PARTS if part != "gateway"}


def merged(issuer: str, documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One document; a component that parts define differently has the part's name before its own."""
    paths: dict[str, Any] = {}
    components: dict[str, dict[str, Any]] = {}
    for part, document in documents.items():
        renamed = _renamed(part, document, components)
        for path, item in renamed.get("paths", {}).items():
            operations = {verb: each for verb, each in item.items() if verb in METHODS and is_public(path, each)}
            if operations:
                paths.setdefault(path, {}).update(operations)
        for kind, each in renamed.get("components", {}).items():
            components.setdefault(kind, {}).update(each)
    _absolute(issuer, components.get("securitySchemes", {}))
    return {
        "openapi": next(iter(documents.values()))["openapi"],
        "info": {"title": "Dossier", "version": "1", "description": "All services, through the gateway."},
        "servers": [{"url": issuer}],
        "paths": dict(sorted(paths.items())),
        "components": _used(paths, components),
    }


def _renamed(part: str, document: dict[str, Any], taken: dict[str, dict[str, Any]]) -> dict[str, Any]:
    schemas = document.get("components", {}).get("schemas", {})
    clashing = {name for name, each in schemas.items() if taken.get("schemas", {}).get(name, each) != each}
    if not clashing:
        return document
    names = {f"#/components/schemas/{name}": f"#/components/schemas/{part}_{name}" for name in clashing}
    renamed: dict[str, Any] = _replaced(document, names)
    kept = renamed["components"]["schemas"]
    renamed["components"]["schemas"] = {
        f"{part}_{name}" if name in clashing else name: each for name, each in kept.items()
    }
    # what refers to a renamed schema differs from its namesake now, and is renamed in its turn
    return _renamed(part, renamed, taken)


def _replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value


def _absolute(issuer: str, schemes: dict[str, Any]) -> None:
    for scheme in schemes.values():
        for flow in scheme.get("flows", {}).values():
            for name in ("authorizationUrl", "tokenUrl"):
                if flow.get(name, "").startswith("/"):
                    flow[name] = issuer + flow[name]


def _used(paths: dict[str, Any], components: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Components without what only left-out operations refer to."""
    schemas = components.get("schemas", {})
    reached: set[str] = set()
    waiting = [paths]
    while waiting:
        for name in _references(waiting.pop()) - reached:
            reached.add(name)
            if name in schemas:
                waiting.append(schemas[name])
    return components | {"schemas": {name: each for name, each in sorted(schemas.items()) if name in reached}}


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {name for each in value.values() for name in _references(each)}
        reference = value.get("$ref")
        return found | {reference.rsplit("/", 1)[-1]} if isinstance(reference, str) else found
    if isinstance(value, list):
        return {name for each in value for name in _references(each)}
    return set()


class Documents:
    """The document of a running gateway, made once."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        own = json.loads(json.dumps(app.openapi()))
        self.openapi = merged(settings.common.issuer, {"gateway": own, **described(settings)})
        self.encoded = orjson.dumps(self.openapi)
        self.groups: dict[str, list[dict[str, Any]]] = {}
        for path, item in self.openapi["paths"].items():
            for verb, operation in item.items():
                tag = (operation.get("tags") or ["other"])[0]
                self.groups.setdefault(tag, []).append(_summary(path, verb, operation))


def _summary(path: str, verb: str, operation: dict[str, Any]) -> dict[str, Any]:
    alternatives = needed(operation)
    return {
        "id": operation["operationId"],
        "method": verb,
        "path": path,
        "description": operation.get("description", ""),
        "security": None if alternatives is None else sorted({scope for each in alternatives for scope in each}),
        "parameters": operation.get("parameters", []),
        "body": list(operation.get("requestBody", {}).get("content", {})),
        "answers": [status for status in operation.get("responses", {}) if status.startswith("2")],
    }


@router.get("/openapi.json", include_in_schema=False)
async def show_openapi(request: Request) -> Response:
    """All operations that can be reached through the gateway."""
    return Response(request.app.state.documents.encoded, media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> Response:
    """The same, to be read."""
    return pages.render(request, "docs.html", groups=request.app.state.documents.groups)
