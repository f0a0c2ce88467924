"""Packs are merged as written, and what is wrong with one is said with its file, line and key."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dossier_common.policy import Policy, PolicyError, load_policy, policy_from_content, policy_from_text

PACKS = Path(__file__).parents[2] / "deploy" / "policies"
HEAD = "pack: trial\ntitle: {zh: 试行, en: Trial}\nsource: none\nextends: baseline\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a pack `trial` over the baseline; its own text starts on line 5."""
    shutil.copy(PACKS / "baseline.yaml", tmp_path)

    def written(text: str, *, head: str = HEAD, name: str = "trial") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(head + text, encoding="utf-8")
        return path

    return written


def refused(path: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    return str(caught.value).splitlines()


def test_a_pack_without_sections_of_its_own_is_the_base_under_another_name(write: Write) -> None:
    merged, base = load_policy(write("")), load_policy(PACKS / "baseline.yaml")
    assert merged.pack == "trial"
    assert merged.model_dump(exclude={"pack", "title", "source"}) == base.model_dump(
        exclude={"pack", "title", "source"}
    )


def test_an_item_of_a_known_id_replaces_only_the_keys_that_it_names(write: Write) -> None:
    merged = load_policy(write("levels:\n  - {id: secret, catalogue_mark: true}\n"))
    assert merged.level("secret").catalogue_mark
    assert merged.level("secret").title.zh == "秘密"
    assert [level.id for level in merged.levels] == ["internal", "secret", "confidential", "top_secret"]


def test_new_items_follow_those_of_the_base(write: Write) -> None:
    merged = load_policy(write("purposes:\n  - {id: survey, title: {zh: 调查, en: Survey}, basis: consent}\n"))
    assert merged.purposes[-1].id == "survey"
    assert merged.purpose("service").basis == "contract"


def test_a_mapping_is_merged_key_by_key(write: Write) -> None:
    merged = load_policy(write("passwords: {min_length: 8}\nclauses:\n  A1.1: {gist: One, keys: [levels]}\n"))
    assert (merged.passwords.min_length, merged.passwords.history) == (8, 5)
    assert {"A1.1", "B6.4"} <= {clause.id for clause in merged.clauses}


def test_an_item_leaves_by_remove_and_not_otherwise(write: Write) -> None:
    merged = load_policy(write("flows:\n  - remove: [view-classified]\nclauses:\n  remove: [B6.14]\n"))
    assert "view-classified" not in {flow.id for flow in merged.flows}
    assert "B6.14" not in {clause.id for clause in merged.clauses}
    with pytest.raises(KeyError):
        merged.flow("view-classified")


def test_a_removed_item_can_be_written_anew(write: Write) -> None:
    text = """\
suspicion:
  - remove: [shared-phone]
  - {id: shared-phone, title: {zh: 共用, en: Shared}, detect: shared_value, due_working_days: 3}
"""
    rule = next(rule for rule in load_policy(write(text)).suspicion if rule.id == "shared-phone")
    assert (rule.due_working_days, rule.fields) == (3, ())


def test_extends_reaches_over_several_packs(write: Write) -> None:
    write("purposes:\n  - {id: survey, title: {zh: 调查, en: Survey}, basis: consent}\n")
    last = write("", head="pack: last\ntitle: {zh: 末, en: Last}\nsource: none\nextends: trial\n", name="last")
    assert load_policy(last).purpose("survey").title.en == "Survey"


SAID = [
    ("surprise: 1\n", "trial.yaml:5: surprise: unknown key"),
    ("levels:\n  - id: secret\n    secret: yes\n", "trial.yaml:7: levels.secret.secret: unknown key"),
    (
        (
            "retention:\n  - remove: [ended-relationship]\n  - id: ended\n    trigger: relationship_ended\n"
            "    disposal: {action: destroy, flow: destroy, executor: records_clerk, witness: inspector,"
            " methods: {electronic: crypto_shred, paper: pulping, disk: degaussing}}\n"
        ),
        "trial.yaml:7: retention.ended.term: is missing",
    ),
    (
        "levels:\n  - {id: secret, secrecy_term: soon}\n",
        (
            "trial.yaml:6: levels.secret.secrecy_term: not an ISO 8601 duration of whole parts,"
            " such as P5Y, P3D or PT2H, not 'soon'"
        ),
    ),
    (
        "flows:\n  - id: view\n    stages:\n      - name: head\n        role: porter\n        of: requester.unit\n",
        "trial.yaml:9: flows.view.stages.head.role: unknown role 'porter'",
    ),
    (
        "flows:\n  - id: view\n    stages:\n      - {name: a, role: inspector, of: company}\n",
        "trial.yaml:8: flows.view.stages.a.role: the role 'inspector' lacks 'requests:decide'",
    ),
    (
        "flows:\n  - id: view\n    stages:\n      - {name: a, role: committee, of: company, return_to: later}\n",
        "trial.yaml:8: flows.view.stages.a.return_to: no earlier stage is called 'later'",
    ),
    (
        "flows:\n  - id: view\n    stages:\n      - {name: a, role: committee}\n",
        "trial.yaml:8: flows.view.stages.a: a stage has either role and of, or any_of",
    ),
    (
        "forms:\n  - {id: person, required: [name, colour]}\n",
        "trial.yaml:6: forms.person.required: unknown field 'colour'",
    ),
    (
        "classification:\n  - {id: odd, level: cosmic, information_class: 1}\n",
        "trial.yaml:6: classification.odd.level: unknown level 'cosmic'",
    ),
    (
        (
            "retention:\n  - id: ended-relationship\n    disposal:\n      action: destroy\n      flow: burn\n"
            "      executor: records_clerk\n      witness: inspector\n"
            "      methods: {electronic: crypto_shred, paper: pulping, disk: degaussing}\n"
        ),
        "trial.yaml:9: retention.ended-relationship.disposal.flow: unknown flow 'burn'",
    ),
    (
        'roles:\n  - {id: inspector, scopes: ["records:devour"]}\n',
        "trial.yaml:6: roles.inspector.scopes[0]: Input should be",
    ),
    (
        'roles:\n  - {id: inspector, scopes: ["disposals:witness", "events:pull"]}\n',
        "trial.yaml:6: roles.inspector.scopes: the scope 'events:pull' is for services only",
    ),
    (
        'qualifications:\n  - {id: training_passed, required_for: ["stars:*"]}\n',
        "trial.yaml:6: qualifications.training_passed.required_for: unknown scope 'stars:*'",
    ),
    (
        'roles:\n  - {id: security_auditor, scopes: ["audit:read", "requests:decide"]}\n',
        "trial.yaml:6: roles.security_auditor.scopes: the role 'security_auditor' breaks the conflict 'audit-apart'",
    ),
    (
        "duties:\n  - {id: training, assignee: security_auditor}\n",
        "trial.yaml:6: duties.training.assignee: the role 'security_auditor' lacks 'duties:work'",
    ),
    (
        "flows:\n  - {id: view-too, when: {action: view}, stages: [{name: a, role: committee, of: company}]}\n",
        "trial.yaml:6: flows.view-too.when: as specific as the flow 'view', and both match the same case",
    ),
    (
        "fields:\n  - {id: phone, headers: [电话, 姓名]}\n",
        "trial.yaml:6: fields.phone.headers: the header '姓名' already means 'name'",
    ),
    (
        "clauses:\n  A1.1:\n    gist: One\n    keys: [flows.fly]\n",
        "trial.yaml:8: clauses.A1.1.keys: unknown key 'flows.fly'",
    ),
    ("flows:\n  - remove: [fly]\n", "trial.yaml:6: flows.remove: there is no 'fly' to remove"),
    ("levels:\n  - {id: a, id: b}\n", "trial.yaml:6: levels[0].id: stands twice"),
    ("levels:\n  - {id: secret}\n  - {id: secret}\n", "trial.yaml:7: levels.secret: stands twice"),
    ("levels: [&x {id: secret}, *x]\n", "trial.yaml:5: aliases are not allowed"),
    ("levels: !!python/object:os.system []\nfields: [\n", "trial.yaml:7: is not YAML"),
    ("title: {zh: 另, en: Other}\n", "trial.yaml:5: title: stands twice"),
    ("passwords:\n  history: !!binary QQ==\n", "trial.yaml:6: passwords.history: tags are not allowed"),
    ("levels:\n  - {id: novel, title: {zh: 新, en: New}}\n", "access: no rule is for the level 'novel'"),
    ("classification:\n  - remove: [ordinary]\n", "no rule is for a customer 'person' of importance 'general'"),
]


@pytest.mark.parametrize(("text", "said"), SAID)
def test_a_fault_is_said_with_file_line_and_key(write: Write, text: str, said: str) -> None:
    lines = refused(write(text))
    assert any(said in line for line in lines), lines


def test_a_fault_inherited_from_the_base_names_the_base(write: Write) -> None:
    lines = refused(write("roles:\n  - remove: [general_manager]\n"))
    assert lines
    assert all(line.startswith("baseline.yaml:") and "unknown role 'general_manager'" in line for line in lines)


@pytest.mark.invariant(4)
@pytest.mark.parametrize("conflict", ["accounts-apart", "audit-apart", "security-apart", "informant-apart"])
def test_no_pack_gives_up_a_conflict_that_all_must_keep(write: Write, conflict: str) -> None:
    assert any(
        ": conflicts: lets one person hold" in line for line in refused(write(f"conflicts: [remove: [{conflict}]]"))
    )


@pytest.mark.invariant(4)
@pytest.mark.parametrize("conflict", [case.id for case in load_policy(PACKS / "baseline.yaml").case_conflicts])
def test_no_pack_gives_up_a_conflict_of_one_case(write: Write, conflict: str) -> None:
    assert any(
        ": case_conflicts: lets one person use" in line
        for line in refused(write(f"case_conflicts: [remove: [{conflict}]]"))
    )


def test_packs_that_extend_each_other_are_refused(write: Write) -> None:
    write("", head=HEAD.replace("baseline", "other"))
    path = write("", head=HEAD.replace("trial", "other").replace("baseline", "trial"), name="other")
    assert refused(path) == ["trial.yaml:4: extends: a pack cannot extend itself: other → trial → other"]


@pytest.mark.parametrize("name", ["../baseline", "nothing", "[baseline]", "1"])
def test_only_a_pack_beside_it_can_be_extended(write: Write, name: str) -> None:
    assert refused(write("", head=HEAD.replace("extends: baseline", f"extends: {name}")))[0].startswith(
        "trial.yaml:4: extends: "
    )


def test_a_pack_is_called_like_its_file(write: Write) -> None:
    assert refused(write("", name="other")) == ["other.yaml:1: pack: the pack is called like its file, 'other'"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"- a\n", b"", b"a: b: c\n", b"? [a]\n: b\n", b"a: \x00"])
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trial.yaml"
    path.write_bytes(content)
    assert refused(path)[0].startswith("trial.yaml:1: ")


def test_a_missing_file_is_a_fault_like_others(tmp_path: Path) -> None:
    assert refused(tmp_path / "gone.yaml")[0].startswith("gone.yaml:1: cannot be read")


def test_a_pack_nested_without_end_is_refused(write: Write) -> None:
    assert "deeper than 20 levels" in refused(write("levels: " + "[" * 200 + "]" * 200))[0]


def test_words_and_times_stay_words(write: Write) -> None:
    text = (
        "detection:\n  - {id: odd-hours, hours: {start: 08:30, end: 20:00, timezone: UTC}}\n"
        "purposes:\n  - {id: service, title: {zh: no, en: 2026-11-22}}\n"
    )
    policy = load_policy(write(text))
    hours = next(rule.hours for rule in policy.detection if rule.id == "odd-hours")
    assert hours is not None
    assert (hours.start.hour, hours.start.minute) == (8, 30)
    assert (policy.purpose("service").title.zh, policy.purpose("service").title.en) == ("no", "2026-11-22")


@pytest.mark.parametrize("pack", ["baseline", "service-desk"])
def test_content_goes_through_json_and_back_with_the_same_digest(pack: str) -> None:
    policy = load_policy(PACKS / f"{pack}.yaml")
    again = policy_from_content(policy.content())
    assert again == policy
    assert again.digest == policy.digest
    assert policy.digest.startswith("sha256:")
    assert len(policy.digest) == len("sha256:") + 64


def test_the_digest_follows_the_meaning_and_not_the_spelling(write: Write) -> None:
    one = load_policy(write("purposes:\n  - {id: service, basis: law}\nlevels: [{id: secret, secrecy_term: P1W}]\n"))
    same = load_policy(
        write("levels:\n  - {secrecy_term: P7D, id: secret}  # a week\npurposes: [{basis: law, id: service}]\n")
    )
    other = load_policy(write("purposes:\n  - {id: service, basis: law}\nlevels: [{id: secret, secrecy_term: P8D}]\n"))
    assert one.digest == same.digest != other.digest


def test_content_that_is_unfit_is_refused_without_a_line() -> None:
    content = load_policy(PACKS / "baseline.yaml").content()
    content["flows"][0]["stages"][0]["role"] = "porter"
    with pytest.raises(PolicyError, match=r"^flows\.view\.stages\.own-department\.role: unknown role 'porter'$"):
        policy_from_content(content)


def test_a_policy_is_frozen() -> None:
    policy: Policy = load_policy(PACKS / "baseline.yaml")
    with pytest.raises(ValueError, match="frozen"):
        policy.pack = "other"  # type: ignore[misc]


EMERGENCY = "emergency:\n  levels: [secret]\n  term: PT1H\n  uses: 1\n  review_within: P1D\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("emergency: {levels: [cosmic]}\n", "trial.yaml:5: emergency.levels: unknown level 'cosmic'"),
        ("emergency: {term: PT0S}\n", "trial.yaml:5: emergency.term: lasts longer than nothing, and 31 days at most"),
        ("emergency: {term: P2M}\n", "trial.yaml:5: emergency.term: lasts longer than nothing, and 31 days at most"),
        ("emergency: {review_within: P9999Y}\n", "trial.yaml:5: emergency.review_within: "),
        (
            EMERGENCY + "  tell:\n    - {role: inspector, of: company}\n",
            "trial.yaml:11: emergency.tell[0].role: the role 'inspector' lacks 'emergency:review'",
        ),
        (
            EMERGENCY + "  tell:\n    - {role: porter, of: company}\n",
            "trial.yaml:11: emergency.tell[0].role: unknown role 'porter'",
        ),
        ("emergency: {actions: [print]}\n", "trial.yaml:5: emergency.actions[0]: Input should be"),
        ("emergency: {tell: []}\n", "trial.yaml:5: emergency.tell: Tuple should have at least 1 item"),
    ],
)
def test_what_is_wrong_with_emergency_access_is_said(write: Write, text: str, said: str) -> None:
    assert any(said in line for line in refused(write(text)))


def test_a_pack_can_have_no_emergency_access(write: Write) -> None:
    assert load_policy(write("emergency: null\n")).emergency is None


def text_of(body: str, head: str = HEAD) -> list[str]:
    """What is wrong with a text, merged over the baseline that is shipped."""
    with pytest.raises(PolicyError) as caught:
        policy_from_text(head + body, PACKS)
    return str(caught.value).splitlines()


def test_a_text_is_read_like_a_file_of_its_name(write: Write) -> None:
    body = "levels:\n  - {id: secret, catalogue_mark: true}\n"
    assert policy_from_text(HEAD + body, PACKS).digest == load_policy(write(body)).digest


def test_a_fault_of_a_text_is_said_with_its_line_and_one_of_the_base_with_that_of_the_base() -> None:
    assert text_of("levels:\n  - {id: secret}\n  - {id: secret}\n") == ["proposal:7: levels.secret: stands twice"]
    lines = text_of("roles:\n  - remove: [general_manager]\n")
    assert lines
    assert all(line.startswith("baseline.yaml:") for line in lines)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("- a\n", "proposal:1: is not a mapping"),
        ("title: x\n", "proposal:1: pack: is the name of the pack"),
        ("pack: ../baseline\n", "proposal:1: pack: is the name of the pack"),
        ("pack: [a]\n", "proposal:1: pack: is the name of the pack"),
        ("pack: trial\nextends: ../../etc/passwd\n", "proposal:2: extends: is the name of a pack"),
        ("pack: trial\nextends: nowhere\n", "proposal:2: extends: there is no pack 'nowhere' beside this one"),
        ("pack: trial\nextends: trial\n", "proposal:2: extends: a pack cannot extend itself"),
        ("a: " + "x" * (1 << 20), "proposal:1: longer than 1048576 bytes"),
        ("a: " + "[" * 100_000, "proposal:1: deeper than 20 levels"),
        ("a: " + "9" * 5000, "proposal:1: a: is too large a number"),
        ('a: "\\ud800"\n', "has a character that no text can have"),
        ('a: "\\0"\n', "has a character that no text can have"),
        ('"\\0": a\n', "has a character that no text can have"),
        ("a: \ud800", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "proposal:2: is not YAML"),
    ],
)
def test_a_text_that_nobody_meant_as_a_pack_is_a_fault_and_nothing_worse(head: str, said: str) -> None:
    (line,) = text_of("", head)
    assert said in line


@pytest.mark.invariant(4)
def test_where_duties_meet_the_fault_says_so() -> None:
    text = HEAD + 'roles:\n  - {id: security_auditor, scopes: ["audit:read", "requests:decide"]}\n  - {id: x}\n'
    with pytest.raises(PolicyError) as caught:
        policy_from_text(text + "duties:\n  - {id: training, assignee: security_auditor}\n", PACKS)
    assert {fault.duty for fault in caught.value.faults} == {False}, "what has another shape is not judged further"
    text = text.replace("  - {id: x}\n", "duties:\n  - {id: training, assignee: security_auditor}\n")
    with pytest.raises(PolicyError) as caught:
        policy_from_text(text, PACKS)
    assert [fault.key for fault in caught.value.faults if fault.duty] == ["roles.security_auditor.scopes"]
    assert len(caught.value.faults) > 1
