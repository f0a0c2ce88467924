"""The check of answers, by answers that are wrong."""

import json
from typing import Any

import httpx
import pytest
from tests.contract.answers import Documented

from dossier_local import matrix

PROBLEM = {"type": "urn:dossier:problem:not-found", "title": "Not found", "status": 404}
ACCOUNT = {"account_id": "00000000-0000-4000-8000-000000000000"}


def answered(status: int, body: dict[str, Any], media: str = "application/problem+json") -> httpx.Response:
    content, headers = json.dumps(body).encode(), {"Content-Type": media}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, stream=httpx.ByteStream(content)))
    with httpx.Client(transport=transport, base_url="http://gateway") as http:
        return http.get(f"/v1/accounts/{ACCOUNT['account_id']}")


@pytest.fixture(scope="module")
def documented() -> Documented:
    return Documented(matrix.documents()["gateway"])


def test_what_is_documented_is_no_fault(documented: Documented) -> None:
    assert documented.fault("show_account", ACCOUNT, answered(404, PROBLEM)) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (answered(404, {"title": "Not found"}), "Response violates schema"),
        (answered(404, PROBLEM, "text/html"), "Undocumented Content-Type"),
        (answered(418, PROBLEM), "Undocumented status code"),
        (answered(500, PROBLEM), "Server error"),
    ],
    ids=["schema", "media", "status", "server"],
)
def test_what_is_not_documented_is_said(documented: Documented, answer: httpx.Response, said: str) -> None:
    assert said in (documented.fault("show_account", ACCOUNT, answer) or "")
