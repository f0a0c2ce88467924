from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dossier_common.policy import Field, load_policy
from dossier_common.policy.vocabulary import Validator
from dossier_local.identifiers import credit_code, resident_id
from dossier_records import validators
from dossier_records.faults import TITLES, WARNINGS, Fault, FaultCode, Severity, refuses

POLICY = load_policy(Path(__file__).parents[2] / "deploy/policies/baseline.yaml")
DEFINITIONS = {field.id: field for field in POLICY.fields}
TODAY = date(2026, 11, 22)
GOOD = {
    "name": "欧阳昱淇",
    "identifier_type": "居民身份证",
    "identifier": "11010519491231002X",
    "phone": "13812345678",
    "sex": "女",
    "birth_date": "1949-12-31",
}
COMPANY = {
    "name": "北京璟泽信息技术有限公司",
    "identifier_type": "统一社会信用代码",
    "identifier": "91350100M000100Y43",
    "legal_representative": "赵昱淇",
    "phone": "13912345678",
}


def field(validator: Validator, max_length: int = 500) -> Field:
    title = {"zh": "某", "en": "Some"}
    return Field.model_validate(
        {
            "id": "some",
            "kind": "identity",
            "title": title,
            "mask": "hidden",
            "validator": validator,
            "max_length": max_length,
            "headers": ["Some"],
        }
    )


def found(customer: str = "person", **changes: str) -> list[tuple[str, str]]:
    base = GOOD if customer == "person" else COMPANY
    values = {name: validators.normalise(DEFINITIONS[name], value) for name, value in (base | changes).items()}
    form = POLICY.form_for(customer)
    return [(fault.field, fault.code) for fault in validators.faults(values, form, DEFINITIONS, TODAY)]


@pytest.mark.parametrize(
    ("validator", "value", "normal"),
    [
        (Validator.TEXT, "  甲\r\n乙\r丙 \u3000", "甲\n乙\n丙"),
        (Validator.NAME, " 欧阳\u3000 昱淇 ", "欧阳 昱淇"),
        (Validator.NAME, "阿卜杜拉•买买提", "阿卜杜拉·买买提"),
        (Validator.NAME, "\uff21\uff22C\uff08中国\uff09有限公司", "ABC(中国)有限公司"),
        (Validator.SEX, "男", "male"),
        (Validator.SEX, "F", "female"),
        (Validator.SEX, "不详", "不详"),
        (Validator.DATE, "1990-1-5", "1990-01-05"),
        (Validator.DATE, "1990/01/05", "1990-01-05"),
        (Validator.DATE, "1990.1.5", "1990-01-05"),
        (Validator.DATE, "1990年1月5日", "1990-01-05"),
        (Validator.DATE, "19900105", "1990-01-05"),
        (Validator.DATE, "1990-01-05 00:00:00", "1990-01-05"),
        (Validator.DATE, "1990-1/5", "1990-1/5"),
        (Validator.IDENTIFIER_TYPE, "居民身份证", "resident_id"),
        (Validator.IDENTIFIER_TYPE, "Unified social credit code", "credit_code"),
        (Validator.IDENTIFIER, "110105 19491231 002x", "11010519491231002X"),
        (Validator.PHONE, "+86 138-1234-5678", "13812345678"),
        (Validator.PHONE, "8613812345678", "13812345678"),
        (Validator.PHONE, "(010)62345678转12", "01062345678x12"),
        (Validator.PHONE, "+44 20 7123 4567", "+442071234567"),
        (Validator.EMAIL, " Alice@Example.COM ", "alice@example.com"),
        (Validator.POSTCODE, "100 010", "100010"),
        (Validator.POSTCODE, "\uff11\uff10\uff10\uff10\uff11\uff10", "100010"),
        (Validator.BANK_CARD, "6222 0212 3456 7890 128", "6222021234567890128"),
        (Validator.NUMBER, "¥1,000.50", "1000.50"),
    ],
)
def test_there_is_one_spelling_of_a_value(validator: Validator, value: str, normal: str) -> None:
    assert validators.normalise(field(validator), value) == normal


@settings(deadline=None)
@given(st.sampled_from(Validator), st.text() | st.text("0123456789-/.+年月日转xX¥, e\u0301\u200b", max_size=24))
def test_a_normal_form_is_its_own_and_is_judged_without_an_exception(validator: Validator, value: str) -> None:
    some = field(validator)
    normal = validators.normalise(some, value)
    assert validators.normalise(some, normal) == normal
    code = validators.value_fault(some, normal)
    assert code is None or code in TITLES


@pytest.mark.parametrize(
    ("validator", "value", "code"),
    [
        (Validator.TEXT, "=cmd|' /C calc'!A0", FaultCode.FORMULA),
        (Validator.TEXT, "\uff1d1+1", FaultCode.FORMULA),  # full width: East Asian programs run it too
        (Validator.TEXT, "@SUM(1)", FaultCode.FORMULA),
        (Validator.TEXT, "-2+3", FaultCode.FORMULA),
        (Validator.NAME, "+甲", FaultCode.FORMULA),
        (Validator.TEXT, "-", None),
        (Validator.TEXT, "甲=乙", None),
        (Validator.NUMBER, "-12.5", None),
        (Validator.NUMBER, "-1+cmd", FaultCode.FORMULA),
        (Validator.PHONE, "+442071234567", None),
        (Validator.PHONE, "+1+cmd|", FaultCode.FORMULA),
        (Validator.TEXT, "甲\x00乙", FaultCode.CONTROL_CHARACTER),
        (Validator.TEXT, "甲\u202e乙", FaultCode.CONTROL_CHARACTER),
        (Validator.TEXT, "甲\ud800乙", FaultCode.CONTROL_CHARACTER),
        (Validator.TEXT, "甲\n乙", None),
        (Validator.TEXT, "𠮷", None),
        (Validator.TEXT, "甲" * 501, FaultCode.TOO_LONG),
        (Validator.NAME, "12345", FaultCode.NAME_FORMAT),
        (Validator.SEX, "不详", FaultCode.SEX_UNKNOWN),
        (Validator.DATE, "2023-02-29", FaultCode.DATE_IMPOSSIBLE),
        (Validator.DATE, "2024-02-29", None),
        (Validator.DATE, "0900-01-01", FaultCode.DATE_OUT_OF_RANGE),
        (Validator.PHONE, "12812345678", FaultCode.PHONE_FORMAT),
        (Validator.PHONE, "4008001234", None),
        (Validator.EMAIL, "nobody", FaultCode.EMAIL_FORMAT),
        (Validator.EMAIL, "a@b.c", FaultCode.EMAIL_FORMAT),
        (Validator.POSTCODE, "10001", FaultCode.POSTCODE_FORMAT),
        (Validator.BANK_CARD, "4111111111111111", None),
        (Validator.BANK_CARD, "4111111111111112", FaultCode.CARD_CHECK_DIGIT),
        (Validator.BANK_CARD, "1234", FaultCode.CARD_FORMAT),
        (Validator.NUMBER, "many", FaultCode.NUMBER_FORMAT),
        (Validator.IDENTIFIER_TYPE, "图书证", FaultCode.IDENTIFIER_TYPE_UNKNOWN),
    ],
)
def test_a_value_is_refused_for_what_is_wrong_with_it(validator: Validator, value: str, code: FaultCode | None) -> None:
    some = field(validator)
    assert validators.value_fault(some, validators.normalise(some, value)) == code


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("resident_id", "11010519491231002X", None),
        ("resident_id", "110105194912310021", FaultCode.IDENTIFIER_CHECK_DIGIT),
        ("resident_id", "11010519491231002", FaultCode.IDENTIFIER_FORMAT),
        ("resident_id", resident_id("999999", date(1990, 1, 1), 1), FaultCode.IDENTIFIER_REGION),
        ("credit_code", "91350100M000100Y43", None),
        ("credit_code", "91350211M0000XUF46", FaultCode.CREDIT_CODE_CHECK_DIGIT),  # genuine, and yet it fails
        ("credit_code", "91350100M000100YI3", FaultCode.IDENTIFIER_FORMAT),
        ("passport", "E12345678", None),
        ("hong_kong_macau_permit", "H12345678", None),
        ("taiwan_permit", "123", FaultCode.IDENTIFIER_FORMAT),
    ],
)
@pytest.mark.clause("A7.6")
def test_an_identifier_is_judged_by_its_type(kind: str, value: str, code: FaultCode | None) -> None:
    assert validators.identifier_fault(kind, value) == code


def test_a_region_may_be_younger_than_the_person() -> None:
    assert validators.identifier_fault("resident_id", resident_id("500103", date(1950, 6, 1), 1)) is None


@settings(deadline=None)
@given(st.dates(date(1900, 1, 1), date(2026, 1, 1)), st.integers(1, 999), st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(born: date, order: int, place: int, step: int) -> None:
    number = resident_id("110105", born, order)
    assert validators.identifier_fault("resident_id", number) is None
    wrong = number[:place] + str((int(number[place]) + step) % 10) + number[place + 1 :]
    assert validators.identifier_fault("resident_id", wrong) is FaultCode.IDENTIFIER_CHECK_DIGIT


@settings(deadline=None)
@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=9, max_size=9), st.integers(8, 16))
def test_a_changed_credit_code_is_a_warning(organisation: str, place: int) -> None:
    code = credit_code("110105", organisation)
    assert validators.identifier_fault("credit_code", code) is None
    wrong = code[:place] + ("0" if code[place] != "0" else "1") + code[place + 1 :]
    assert validators.identifier_fault("credit_code", wrong) is FaultCode.CREDIT_CODE_CHECK_DIGIT


def test_good_records_have_no_fault() -> None:
    assert found() == []
    assert found("organisation") == []


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"birth_date": "1950-01-01"}, [("birth_date", "birth-date-contradicts")]),
        ({"sex": "男"}, [("sex", "sex-contradicts")]),
        (
            {"sex": "男", "birth_date": "1950-01-01"},
            [("birth_date", "birth-date-contradicts"), ("sex", "sex-contradicts")],
        ),
        ({"sex": "男", "identifier": "110105194912310021"}, [("identifier", "identifier-check-digit")]),
        ({"birth_date": "2226-01-01"}, [("birth_date", "date-in-future")]),
        (
            {"identifier": resident_id("110105", date(2226, 1, 1), 2), "birth_date": ""},
            [("identifier", "identifier-date")],
        ),
        ({"sex": "", "birth_date": ""}, []),
        ({"identifier_type": "护照", "identifier": "E12345678"}, []),
        ({"identifier_type": ""}, [("identifier_type", "required")]),
        ({"name": " \u3000", "phone": ""}, [("name", "required"), ("phone", "required")]),
        ({"legal_representative": "赵昱淇"}, [("legal_representative", "outside-form")]),
    ],
)
@pytest.mark.clause("A7.6")
def test_fields_of_a_person_agree_with_each_other(changes: dict[str, str], faults: list[tuple[str, str]]) -> None:
    assert found(**changes) == faults


@pytest.mark.clause("A2.4.1")
def test_an_incomplete_record_is_refused_with_the_list_of_what_is_missing() -> None:
    form = POLICY.form_for("organisation")
    missing = validators.faults({}, form, DEFINITIONS, TODAY)
    assert [fault.field for fault in missing] == list(form.required)
    assert {fault.code for fault in missing} == {FaultCode.REQUIRED}


def test_a_field_that_the_policy_does_not_have_is_refused() -> None:
    faults = validators.faults({"shoe_size": "42"}, None, DEFINITIONS, TODAY)
    assert faults == [Fault("shoe_size", FaultCode.UNKNOWN_FIELD)]


def test_another_person_in_the_same_record_is_checked_by_his_own_identifier() -> None:
    insured = {
        f"insured_{name}": DEFINITIONS[name].model_copy(update={"id": f"insured_{name}"})
        for name in ("identifier_type", "identifier", "sex", "birth_date")
    }
    values = {
        "insured_identifier_type": "resident_id",
        "insured_identifier": "11010519491231002X",
        "insured_sex": "male",
        "insured_birth_date": "1949-12-31",
    }
    faults = validators.faults(values, None, DEFINITIONS | insured, TODAY)
    assert faults == [Fault("insured_sex", FaultCode.SEX_CONTRADICTS)]


def test_warnings_do_not_refuse_and_every_code_has_titles_in_both_languages() -> None:
    assert not refuses([Fault("identifier", code) for code in WARNINGS])
    assert refuses([Fault("identifier", FaultCode.CREDIT_CODE_CHECK_DIGIT), Fault("name", FaultCode.REQUIRED)])
    assert Fault("identifier", FaultCode.CREDIT_CODE_CHECK_DIGIT).severity is Severity.WARNING
    assert set(TITLES) == set(FaultCode)
    assert all(title.zh and title.en for title in TITLES.values())


def test_a_gigantic_value_costs_nothing() -> None:
    some = field(Validator.NAME)
    gigantic = "\ufdfa" * 1_000_000
    assert validators.normalise(some, gigantic) is gigantic
    assert validators.value_fault(some, gigantic) is FaultCode.TOO_LONG
