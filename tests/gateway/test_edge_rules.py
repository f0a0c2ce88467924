"""What the proxy decides without a request: routes, rates, addresses, zones, documents."""

from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_gateway.console.documents import merged
from dossier_gateway.directory.rules import redirect_fault
from dossier_gateway.oauth.clients import CALLS
from dossier_gateway.proxy import headers
from dossier_gateway.proxy.limits import Limiter
from dossier_gateway.proxy.routes import RouteTable


def document(*operations: tuple[str, str], scopes: tuple[str, ...] = ("records:read",)) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for verb, path in operations:
        name = f"{verb}{path}".replace("/", "_")
        paths.setdefault(path, {})[verb] = {"operationId": name, "security": [{"oauth2": list(scopes)}]}
    return {"openapi": "3.1.0", "paths": paths}


def test_a_route_declared_twice_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="declared by"):
        RouteTable({"records": document(("get", "/v1/x/{a}")), "audit": document(("get", "/v1/x/{b}"))})


def test_a_wrong_turn_at_a_fixed_segment_is_taken_back() -> None:
    table = RouteTable({"records": document(("get", "/v1/x/mine/a"), ("get", "/v1/x/{id}/b"))})
    match = table.match("/v1/x/mine/b")
    assert match is not None
    assert match.values == {"id": "mine"}


@pytest.mark.parametrize("path", ["", "/", "v1/x/1", "/v1/x/", "/v1/x/../1", "/v1//1", "/v1/x/./", "/v1/x/1/"])
def test_odd_paths_match_nothing(path: str) -> None:
    assert RouteTable({"records": document(("get", "/v1/x/{id}"))}).match(path) is None


def test_an_operation_without_security_still_needs_a_caller_and_one_for_services_is_no_route() -> None:
    open_door = document(("get", "/v1/open"))
    del open_door["paths"]["/v1/open"]["get"]["security"]
    table = RouteTable({"records": open_door, "audit": document(("get", "/v1/proofs"), scopes=("proofs:read",))})
    assert [(route.path, route.scopes) for route in table.routes] == [("/v1/open", (frozenset(),))]


def test_alternatives_are_one_or_the_other() -> None:
    either = document(("get", "/v1/x"))
    either["paths"]["/v1/x"]["get"]["security"] = [{"oauth2": ["a:b"]}, {"oauth2": ["c:d", "e:f"]}]
    (route,) = RouteTable({"records": either}).routes
    assert route.missing(frozenset({"a:b"})) is None
    assert route.missing(frozenset({"c:d", "e:f"})) is None
    assert route.missing(frozenset({"c:d"})) == "a:b"


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=100),
)
def test_no_more_pass_than_the_burst_and_the_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    limiter, now, passed = Limiter(rate, burst), 100.0, 0
    for gap in gaps:
        now += gap
        verdict = limiter.take("one", now)
        passed += verdict.allowed
        assert 0 <= verdict.remaining < burst
    assert passed <= burst + (now - 100.0) * rate + 1
    assert limiter.take("another", now).allowed


def test_a_refused_call_may_come_again_when_it_was_told() -> None:
    limiter = Limiter(1, 2)
    assert [limiter.take("a", 0).allowed for _ in range(3)] == [True, True, False]
    assert limiter.take("a", limiter.take("a", 0).reset).allowed


def test_an_address_is_believed_only_from_a_trusted_proxy() -> None:
    said = [b"6.6.6.6, 9.9.9.9, 10.0.0.2"]
    trusted = (IPv4Network("10.0.0.0/8"),)
    assert headers.address("9.9.9.1", said, trusted) == "9.9.9.1"
    assert headers.address("10.0.0.1", said, ()) == "10.0.0.1"
    assert headers.address("10.0.0.1", said, trusted) == "9.9.9.9"
    assert headers.address("10.0.0.1", [b"junk"], trusted) == "10.0.0.1"


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("https://app.example/cb", True),
        ("http://127.0.0.1:9/cb", True),
        ("http://[::1]/cb", True),
        ("http://app.example/cb", False),
        ("https://user@app.example/cb", False),
        ("https://app.example/cb#f", False),
        ("https:///cb", False),
        ("https://app.example/ cb", False),
        ("custom:cb", False),
        ("https://app.example:99999/cb", False),
    ],
)
def test_redirects_that_can_be_registered(uri: str, *, good: bool) -> None:
    assert (redirect_fault(uri) is None) == good


def test_a_component_that_parts_define_differently_gets_the_parts_name() -> None:
    def with_schemas(path: str, **schemas: Any) -> dict[str, Any]:
        made = document(("get", path))
        made["paths"][path]["get"]["responses"] = {"200": {"$ref": "#/components/schemas/Thing"}}
        return made | {"components": {"schemas": schemas}}

    inner = {"$ref": "#/components/schemas/Title"}
    one = with_schemas("/v1/a", Thing={"properties": {"title": inner}}, Title={"type": "string"}, Unused={})
    other = with_schemas("/v1/b", Thing={"properties": {"title": inner}}, Title={"type": "object"})
    document_of_both = merged("https://x.example", {"records": one, "audit": other})
    schemas = document_of_both["components"]["schemas"]
    assert set(schemas) == {"Thing", "Title", "audit_Thing", "audit_Title"}
    assert schemas["audit_Thing"]["properties"]["title"]["$ref"] == "#/components/schemas/audit_Title"
    answer = document_of_both["paths"]["/v1/b"]["get"]["responses"]["200"]
    assert answer["$ref"] == "#/components/schemas/audit_Thing"


def test_no_part_may_ask_for_more_than_it_follows_and_the_three_questions() -> None:
    beyond = {
        (part, called, str(scope)) for part, all_ in CALLS.items() for called, scope in all_ if scope != "events:pull"
    }
    assert beyond == {
        ("approvals", "records", "records:describe"),
        ("retention", "records", "records:describe"),
        ("records", "approvals", "grants:resolve"),
    }
