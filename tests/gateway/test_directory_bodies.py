"""Whatever is sent to the directory: it is taken, or refused as invalid with pointers; never an error of ours."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey
from pydantic import BaseModel, ValidationError

from dossier_common.problems import Invalid
from dossier_gateway.directory import (
    authorisation_schemas,
    client_rules,
    client_schemas,
    partner_schemas,
    rules,
    schemas,
)

BODIES: list[type[BaseModel]] = [
    schemas.NewUnit,
    schemas.UnitPatch,
    schemas.NewAccount,
    schemas.AccountPatch,
    schemas.Disabling,
    schemas.NewAssignment,
    schemas.NewQualification,
    schemas.NewWithdrawal,
    client_schemas.NewClient,
    client_schemas.ClientPatch,
    client_schemas.NewSecret,
    partner_schemas.NewPartner,
    partner_schemas.PartnerPatch,
    partner_schemas.NewPartnerQualification,
    authorisation_schemas.NewAuthorisation,
    authorisation_schemas.NewDecision,
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "2026-01-05",
            "9999-12-31",
            "2026-01-05T00:00:00Z",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00",
            "PT1H",
            "P999999999D",
            "https://app.example/cb",
            "office",
        ]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = (OKPKey.generate_key("Ed25519").as_dict(private=False), ECKey.generate_key("P-256").as_dict(private=False))


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
@given(data=st.data())
def test_a_body_is_taken_or_refused(model: type[BaseModel], data: st.DataObject) -> None:
    names = [*model.model_fields, "id", "state", "version"]
    body = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=len(names)) | JSON)
    with suppress(ValidationError):
        model.model_validate(body)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2300-01-01T00:00:00Z"])
def test_an_instant_outside_the_calendar_is_refused(at: str) -> None:
    with pytest.raises(ValidationError):
        schemas.NewAssignment.model_validate({"role": "collector", "unit": str(UUID(int=1)), "valid_until": at})


@given(
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("kty", "crv", "x", "y", "n", "e"), JSON)), max_size=3)
)
def test_keys_are_public_ones_or_refused(given_keys: list[dict[str, Any]]) -> None:
    with pytest.raises(Invalid):
        client_rules.public_keys(given_keys or [{}])


@given(st.sampled_from(KEYS), st.sampled_from(("kty", "crv", "x", "y", "kid", "use", "alg", "d", "k", "other")), JSON)
def test_a_key_with_one_member_changed_is_kept_without_what_is_private_or_refused(
    key: dict[str, Any], member: str, value: Any
) -> None:
    changed = {"kid": "one", **key, member: value}
    with suppress(Invalid):
        (kept,) = client_rules.public_keys([changed])["keys"]
        assert set(kept) <= {"kty", "crv", "x", "y", "kid", "use", "alg"}
        assert all(isinstance(each, str) for each in kept.values())


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z\[\]:0-9.@]{0,20}(/[^\x00]{0,10})?", fullmatch=True))
def test_a_redirect_is_judged_and_never_breaks(uri: str) -> None:
    assert rules.redirect_fault(uri) is None or isinstance(rules.redirect_fault(uri), str)
