import json
import re
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from stdnum import numdb
from stdnum.cn import ric, uscc

from dossier_common.policy import load_policy
from dossier_local import customer_files, customers, faulty_customers
from dossier_local.customer_files import Refusal, Sheet
from dossier_local.identifiers import credit_check, resident_check, resident_id
from dossier_records import spreadsheets
from dossier_records.intake import Candidate, Intake

ROOT = Path(__file__).parents[2]
POLICY = load_policy(ROOT / "deploy/policies/baseline.yaml")
FILES = (
    "customers-gb18030.csv",
    "customers-utf8.csv",
    "customers-utf8-nobom.csv",
    "customers-en.csv",
    "customers.xlsx",
)


@pytest.fixture(scope="module")
def made() -> Sheet:
    return customer_files.sheet()


@pytest.fixture(scope="module")
def files(made: Sheet) -> dict[str, bytes]:
    return customer_files.files(made)


def judged(data: bytes) -> list[Candidate]:
    intake = Intake(POLICY, date(2026, 11, 22))
    meanings, required = spreadsheets.headers(POLICY), spreadsheets.required_columns(POLICY)
    return [intake.judge(row) for row in spreadsheets.read(data, "", None, meanings=meanings, required=required)]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.clause("A7.6")
def test_an_importer_accepts_the_good_rows_and_names_the_one_fault_of_each_other(
    file: str, made: Sheet, files: dict[str, bytes]
) -> None:
    candidates = judged(files[file])
    told = [Refusal(row.number, fault.field, fault.code) for row in candidates for fault in row.faults]
    assert told == list(made.refusals)
    assert len(told) == 40
    assert sum(not row.refused for row in candidates) == made.accepted == 1000


def test_every_kind_of_fault_occurs(made: Sheet) -> None:
    assert {kind.code for kind in faulty_customers._KINDS} == {refusal.code for refusal in made.refusals}
    assert len({(kind.field, kind.code) for kind in faulty_customers._KINDS}) >= 25


def test_the_script_writes_the_same_bytes_each_time(tmp_path: Path, files: dict[str, bytes]) -> None:
    script = [sys.executable, str(ROOT / "tests/data/make_customers.py")]
    subprocess.run([*script, str(tmp_path / "default")], check=True, capture_output=True)
    subprocess.run([*script, str(tmp_path / "other"), "--seed", "9", "--rows", "20", "--faulty", "3"], check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "default").iterdir()} == files
    assert json.loads((tmp_path / "other/expected.json").read_text())["accepted"] == 20


def test_expected_json_says_what_an_importer_must_answer(made: Sheet, files: dict[str, bytes]) -> None:
    expected = json.loads(files["expected.json"])
    assert (expected["rows"], expected["accepted"]) == (1040, 1000)
    assert [Refusal(**refused) for refused in expected["refused"]] == list(made.refusals)


def test_identifiers_agree_with_another_implementation() -> None:
    for row in customers.rows():
        if row["customer_type"] == customers.PERSON:
            assert row["identifier"][-1] == ric.calc_check_digit(row["identifier"])
            assert any("county" in properties for _, properties in numdb.get("cn/loc").info(row["identifier"][:6]))
            assert ric.get_birth_date(row["identifier"]).isoformat() == row["birth_date"]
            assert (int(row["identifier"][16]) % 2 == 1) == (row["sex"] == "男")
        else:
            assert uscc.is_valid(row["identifier"])


def test_check_digits_of_known_numbers() -> None:
    assert resident_id("110105", date(1949, 12, 31), 2) == "11010519491231002X"
    assert resident_check("36042619910101007") == "1"
    assert credit_check("91350100M000100Y4") == "3"


def test_names_phones_and_identifiers_are_distinct_and_unmistakable() -> None:
    rows = customers.rows()
    for column in ("name", "phone", "identifier", "email"):
        assert len({row[column] for row in rows}) == len(rows)
    assert all(len(row["name"]) >= 3 and len(row["name"].encode("gb18030")) >= 6 for row in rows)
    assert all(re.fullmatch("1[3-9][0-9]{9}", row["phone"]) for row in rows)
    everything = "\n".join(value for row in rows for value in row.values())
    for column in ("name", "phone", "identifier"):
        assert max(everything.count(row[column]) for row in rows) == 1


def test_the_mixture_is_that_of_an_office() -> None:
    rows = customers.rows()
    kinds = Counter(row["customer_type"] for row in rows)
    assert (kinds[customers.PERSON], kinds[customers.ORGANISATION]) == (850, 150)
    assert set(customers.IMPORTANCES) == {row["importance"] for row in rows}
    ended = [date.fromisoformat(row["relationship_ended_on"]) for row in rows if row["relationship_ended_on"]]
    long_ago = sum(day < customers.REFERENCE_DAY - timedelta(days=6 * 366) for day in ended)
    assert 70 <= long_ago <= 130
    assert 70 <= len(ended) - long_ago <= 130


def test_other_seeds_give_other_people_and_the_same_behaviour() -> None:
    made = customer_files.sheet(seed=77, count=120, faults=34)
    assert made.rows[0] != customer_files.sheet().rows[0]
    candidates = judged(customer_files.as_csv(made.rows, "gb18030"))
    told = [Refusal(row.number, fault.field, fault.code) for row in candidates for fault in row.faults]
    assert told == list(made.refusals)


def test_faulty_rows_can_be_had_by_themselves() -> None:
    faulty = faulty_customers.faulty()
    assert len(faulty) == 40
    assert all(row.repeats in customers.rows() for row in faulty if row.code == "duplicate")
