"""What makes a well-formed policy unfit for use: references, ambiguities, gaps, and duties that meet in one hand."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations, product

from pydantic import BaseModel

from dossier_common.policy.flows import Approver, Flow, Stage
from dossier_common.policy.model import Policy, UnknownNameError
from dossier_common.policy.sections import ANY, LevelAccess
from dossier_common.policy.vocabulary import ON_ACCOUNTS, WAYS_IN, Action, Concerning, DisposalAction
from dossier_common.scopes import FOR_PEOPLE, SERVICE_ONLY, Scope, expand

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
"""Where, as steps from the root, and what."""

READING_OUTSIDE_AUDIT = frozenset(
    {
        Scope.RECORDS_CATALOGUE,
        Scope.RECORDS_READ,
        Scope.RECORDS_REPORT,
        Scope.REQUESTS_READ,
        Scope.GRANTS_READ,
        Scope.RETENTION_READ,
        Scope.OPERATIONS_READ,
    }
)
AUDIT = expand(["audit:*"])
INSIDE_AUDIT = AUDIT | expand(["incidents:*", "complaints:*"])
RECORDS = expand(["records:*"])
ACCOUNTS = frozenset({Scope.ACCOUNTS_MANAGE, Scope.CLIENTS_MANAGE})

APART: tuple[tuple[frozenset[Scope], frozenset[Scope]], ...] = (
    (ACCOUNTS, RECORDS | AUDIT | {Scope.ROLES_ASSIGN}),
    (AUDIT, FOR_PEOPLE - INSIDE_AUDIT - READING_OUTSIDE_AUDIT),
    (frozenset({Scope.ROLES_ASSIGN, Scope.POLICY_PROPOSE}), RECORDS),
    (frozenset({Scope.COMPLAINTS_INFORMANT}), frozenset({Scope.ACCOUNTS_MANAGE})),
)
"""What no pack may let one person hold together (invariant 4); a pack adds, and never takes away."""

APART_IN_A_CASE: tuple[tuple[Scope, Scope], ...] = (
    (Scope.REQUESTS_CREATE, Scope.REQUESTS_DECIDE),
    (Scope.REQUESTS_DECIDE, Scope.REQUESTS_DECIDE),
    (Scope.DISPOSALS_EXECUTE, Scope.DISPOSALS_WITNESS),
    (Scope.HOLDS_PLACE, Scope.HOLDS_RELEASE),
    (Scope.POLICY_PROPOSE, Scope.POLICY_APPROVE),
    (Scope.EMERGENCY_USE, Scope.EMERGENCY_REVIEW),
)
"""What no pack may let one person do in one case (invariant 4)."""

ITEM_LISTS = (
    "clauses", "levels", "customer_types", "customer_classes", "importances", "columns", "fields", "forms",
    "classification", "suspicion", "purposes", "flows", "roles", "conflicts", "case_conflicts", "qualifications",
    "maintenance", "retention", "duties", "detection", "incidents",
)  # fmt: skip


def findings(policy: Policy) -> Iterator[Finding]:
    """All that is wrong but duties that meet, in no particular order; nothing for a policy that may be used."""
    yield from _duplicates(policy)
    yield from _references(policy)
    yield from _spreadsheets(policy)
    yield from _scopes(policy)
    yield from _flows(policy)
    yield from _emergency(policy)
    yield from _retention(policy)
    yield from _duties(policy)
    yield from _maintenance(policy)
    yield from _clauses(policy)
    if not any(_duplicates(policy)):
        yield from _gaps(policy)
        yield from _one_hand(policy)


def _repeated(values: Iterable[str]) -> set[str]:
    return {value for value, count in Counter(values).items() if count > 1}


def _duplicates(policy: Policy) -> Iterator[Finding]:
    for section in ITEM_LISTS:
        ids = [item.id for item in getattr(policy, section)]
        yield from (((section, ids.index(name)), f"the id {name!r} stands twice") for name in _repeated(ids))
    for name in _repeated(access.level for access in policy.access):
        yield ("access",), f"the level {name!r} stands twice"
    keys = [(form.customer, name) for form in policy.forms for name in form.classes]
    for customer, name in {key for key, count in Counter(keys).items() if count > 1}:
        yield ("forms",), f"two forms are for {customer!r} of class {name!r}"


class _Known:
    """Names that may be referred to, by the word for their kind."""

    def __init__(self, policy: Policy) -> None:
        self._names = {
            "level": {level.id for level in policy.levels},
            "customer type": {item.id for item in policy.customer_types},
            "customer class": {item.id for item in policy.customer_classes},
            "importance": {item.id for item in policy.importances},
            "field": {field.id for field in policy.fields},
            "flow": {flow.id for flow in policy.flows},
            "role": {role.id for role in policy.roles},
        }

    def missing(self, kind: str, names: Iterable[str] | str | None, path: Path) -> Iterator[Finding]:
        for name in [names] if isinstance(names, str) else names or ():
            if name not in self._names[kind]:
                yield path, f"unknown {kind} {name!r}"


def _references(policy: Policy) -> Iterator[Finding]:
    known = _Known(policy)
    yield from _form_references(known, policy)
    yield from _retention_references(known, policy)
    for at, rule in enumerate(policy.classification):
        path: Path = ("classification", at)
        yield from known.missing("level", rule.level, (*path, "level"))
        yield from known.missing("customer type", rule.when.customer_type, (*path, "when", "customer_type"))
        yield from known.missing("importance", rule.when.importance, (*path, "when", "importance"))
    for at, suspicion in enumerate(policy.suspicion):
        yield from known.missing("field", suspicion.fields, ("suspicion", at, "fields"))
    for at, access in enumerate(policy.access):
        yield from known.missing("level", access.level, ("access", at, "level"))
    for at, flow in enumerate(policy.flows):
        yield from _flow_references(known, flow, ("flows", at))
    if policy.emergency is not None:
        yield from known.missing("level", policy.emergency.levels, ("emergency", "levels"))
        for number, office in enumerate(policy.emergency.tell):
            yield from known.missing("role", office.role, ("emergency", "tell", number, "role"))
    for at, duty in enumerate(policy.duties):
        yield from known.missing("role", duty.assignee, ("duties", at, "assignee"))
    for at, incident in enumerate(policy.incidents):
        yield from known.missing("level", incident.level, ("incidents", at, "level"))
        for number, notice in enumerate(incident.tell):
            yield from known.missing("role", notice.role, ("incidents", at, "tell", number, "role"))


def _form_references(known: _Known, policy: Policy) -> Iterator[Finding]:
    for at, form in enumerate(policy.forms):
        path: Path = ("forms", at)
        yield from known.missing("customer type", form.customer, (*path, "customer"))
        yield from known.missing("customer class", form.classes, (*path, "classes"))
        for key in ("required", "optional", "forbidden"):
            yield from known.missing("field", getattr(form, key), (*path, key))
        for name in _repeated((*form.required, *form.optional, *form.forbidden)):
            yield path, f"the field {name!r} is named twice"


def _retention_references(known: _Known, policy: Policy) -> Iterator[Finding]:
    for at, retention in enumerate(policy.retention):
        path: Path = ("retention", at)
        customers = [name for name in retention.when.customer if name != ANY]
        yield from known.missing("customer type", customers, (*path, "when", "customer"))
        yield from known.missing("level", retention.when.level, (*path, "when", "level"))
        yield from known.missing("flow", retention.disposal.flow, (*path, "disposal", "flow"))
        yield from known.missing("role", retention.disposal.executor, (*path, "disposal", "executor"))
        yield from known.missing("role", retention.disposal.witness, (*path, "disposal", "witness"))


def _flow_references(known: _Known, flow: Flow, path: Path) -> Iterator[Finding]:
    yield from known.missing("level", flow.when.level, (*path, "when", "level"))
    if flow.grant.overdue:
        yield from known.missing("role", flow.grant.overdue.escalate_to, (*path, "grant", "overdue", "escalate_to"))
    for number, stage in enumerate(flow.stages):
        for approver, place in _offices(stage):
            yield from known.missing("role", approver.role, (*path, "stages", number, *place))


def _offices(stage: Stage) -> Iterator[tuple[Approver, Path]]:
    if stage.role is not None:
        yield stage.approvers[0], ("role",)
    yield from ((approver, ("any_of", number, "role")) for number, approver in enumerate(stage.any_of))
    if stage.escalate_to:
        yield stage.escalate_to, ("escalate_to", "role")


def _spreadsheets(policy: Policy) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for section in ("columns", "fields"):
        for at, item in enumerate(getattr(policy, section)):
            for header in item.headers:
                other = seen.setdefault(header.casefold(), item.id)
                if other != item.id:
                    yield (section, at, "headers"), f"the header {header!r} already means {other!r}"
    for section in ("customer_types", "customer_classes", "importances"):
        spellings: dict[str, str] = {}
        for at, item in enumerate(getattr(policy, section)):
            for value in item.values:
                other = spellings.setdefault(value.casefold(), item.id)
                if other != item.id:
                    yield (section, at, "values"), f"the value {value!r} already means {other!r}"


def _scopes(policy: Policy) -> Iterator[Finding]:
    for at, role in enumerate(policy.roles):
        for scope in role.scopes:
            if scope in SERVICE_ONLY:
                yield ("roles", at, "scopes"), f"the scope {scope.value!r} is for services only"
    for at, conflict in enumerate(policy.conflicts):
        for number, patterns in enumerate(conflict.between):
            yield from _patterns(patterns, ("conflicts", at, "between", number))
    for at, qualification in enumerate(policy.qualifications):
        yield from _patterns(qualification.required_for, ("qualifications", at, "required_for"))
    for at, case in enumerate(policy.case_conflicts):
        for scope in case.scopes:
            if scope in SERVICE_ONLY:
                yield ("case_conflicts", at, "scopes"), f"the scope {scope.value!r} is for services only"


def _patterns(patterns: Iterable[str], path: Path) -> Iterator[Finding]:
    for pattern in patterns:
        if not expand([pattern]):
            yield path, f"unknown scope {pattern!r}"


def _flows(policy: Policy) -> Iterator[Finding]:
    deciders = {role.id for role in policy.roles if Scope.REQUESTS_DECIDE in role.scopes}
    roles = {role.id for role in policy.roles}
    for at, flow in enumerate(policy.flows):
        names: list[str] = []
        for number, stage in enumerate(flow.stages):
            path: Path = ("flows", at, "stages", number)
            if stage.name in names:
                yield (*path, "name"), f"the stage {stage.name!r} stands twice"
            if stage.return_to is not None and stage.return_to not in names:
                yield (*path, "return_to"), f"no earlier stage is called {stage.return_to!r}"
            names.append(stage.name)
            for approver, place in _offices(stage):
                if approver.role in roles - deciders:
                    yield (*path, *place), f"the role {approver.role!r} lacks 'requests:decide'"
    for (_, one), (at, other) in combinations(enumerate(policy.flows), 2):
        if one.when.specificity == other.when.specificity and one.when.overlaps(other.when):
            yield ("flows", at, "when"), f"as specific as the flow {one.id!r}, and both match the same case"


def _emergency(policy: Policy) -> Iterator[Finding]:
    reviewers = {role.id for role in policy.roles if Scope.EMERGENCY_REVIEW in role.scopes}
    for number, office in enumerate(policy.emergency.tell if policy.emergency else ()):
        if office.role in {role.id for role in policy.roles} - reviewers:
            yield ("emergency", "tell", number, "role"), f"the role {office.role!r} lacks 'emergency:review'"


def _retention(policy: Policy) -> Iterator[Finding]:
    actions = {flow.id: flow.when.action for flow in policy.flows}
    executors = {role.id for role in policy.roles if Scope.DISPOSALS_EXECUTE in role.scopes}
    witnesses = {role.id for role in policy.roles if Scope.DISPOSALS_WITNESS in role.scopes}
    roles = {role.id for role in policy.roles}
    for at, rule in enumerate(policy.retention):
        path = ("retention", at, "disposal")
        if rule.term.is_zero or rule.term.seconds:
            yield ("retention", at, "term"), "a term lasts whole days, at least one"
        if rule.disposal.flow in actions and Action.DESTROY not in actions[rule.disposal.flow]:
            yield (*path, "flow"), f"the flow {rule.disposal.flow!r} is not for the action 'destroy'"
        if rule.disposal.executor in roles - executors:
            yield (*path, "executor"), f"the role {rule.disposal.executor!r} lacks 'disposals:execute'"
        if rule.disposal.witness in roles - witnesses:
            yield (*path, "witness"), f"the role {rule.disposal.witness!r} lacks 'disposals:witness'"
    for (_, one), (at, other) in combinations(enumerate(policy.retention), 2):
        if one.when.specificity == other.when.specificity and one.when.overlaps(other.when):
            yield ("retention", at, "when"), f"as specific as the rule {one.id!r}, and both match the same record"


def _duties(policy: Policy) -> Iterator[Finding]:
    idle = {role.id for role in policy.roles if Scope.DUTIES_WORK not in role.scopes}
    for at, duty in enumerate(policy.duties):
        if duty.assignee in idle:
            yield ("duties", at, "assignee"), f"the role {duty.assignee!r} lacks 'duties:work'"


def _maintenance(policy: Policy) -> Iterator[Finding]:
    held = {scope for role in policy.roles for scope in role.scopes}
    subjects = [(rule.operation, rule.concerning) for rule in policy.maintenance]
    for at, rule in enumerate(policy.maintenance):
        if subjects.index(subjects[at]) != at:
            yield ("maintenance", at, "operation"), f"a rule is for {rule.operation.value!r} already"
        if rule.concerning is Concerning.OFFICERS and rule.operation not in ON_ACCOUNTS:
            yield ("maintenance", at, "concerning"), f"{rule.operation.value!r} is not done to an account of somebody"
        for name in ("authorised_by", "otherwise_by"):
            scope: Scope = getattr(rule, name)
            if scope not in held:
                yield ("maintenance", at, name), f"no role holds {scope.value!r}"
        if rule.otherwise_by is rule.authorised_by:
            yield ("maintenance", at, "otherwise_by"), "who holds another scope decides about who holds this one"
    offices = [role.id for role in policy.roles if policy.is_office([role.id])]
    for operation in WAYS_IN:
        if offices and policy.maintenance_for(operation, offices) is None:
            yield ("maintenance",), f"{operation.value!r} on an officer's account needs another person's word"


def _clauses(policy: Policy) -> Iterator[Finding]:
    for at, clause in enumerate(policy.clauses):
        for key in clause.keys:
            section, _, name = key.partition(".")
            if section not in Policy.model_fields:
                yield ("clauses", at, "keys"), f"unknown section {section!r}"
            elif name and name not in _names_in(policy, section):
                yield ("clauses", at, "keys"), f"unknown key {key!r}"


def _names_in(policy: Policy, section: str) -> Iterable[str]:
    value = getattr(policy, section)
    if isinstance(value, tuple):
        return {item.level if isinstance(item, LevelAccess) else str(item.id) for item in value}
    return set(type(value).model_fields) if isinstance(value, BaseModel) else set()


def _gaps(policy: Policy) -> Iterator[Finding]:
    for customer, importance in product(policy.customer_types, policy.importances):
        try:
            policy.classify(customer.id, importance.id, ())
        except UnknownNameError:
            yield ("classification",), f"no rule is for a customer {customer.id!r} of importance {importance.id!r}"
    ruled = {access.level for access in policy.access}
    yield from ((("access",), f"no rule is for the level {lv.id!r}") for lv in policy.levels if lv.id not in ruled)
    formed = {form.customer for form in policy.forms}
    for customer in policy.customer_types:
        if customer.id not in formed:
            yield ("forms",), f"no form is for the customer type {customer.id!r}"


def duties_together(policy: Policy) -> Iterator[Finding]:
    """Where one person could hold, or do in one case, what nobody may (invariant 4); nothing where ids stand twice."""
    if any(_duplicates(policy)):
        return
    for at, role in enumerate(policy.roles):
        for conflict in policy.conflicts_in(role.scopes):
            yield ("roles", at, "scopes"), f"the role {role.id!r} breaks the conflict {conflict.id!r}"
    for left, right in APART:
        for one, other in product(sorted(left), sorted(right)):
            if one != other and not policy.conflicts_in({one, other}):
                yield ("conflicts",), f"lets one person hold {one.value!r} with {other.value!r}"
    kept = {frozenset(case.scopes) for case in policy.case_conflicts}
    for pair in APART_IN_A_CASE:
        if frozenset(pair) not in kept:
            yield ("case_conflicts",), f"lets one person use {pair[0].value!r} and {pair[1].value!r} in one case"


def _one_hand(policy: Policy) -> Iterator[Finding]:
    for at, rule in enumerate(policy.retention):
        if rule.disposal.action is DisposalAction.DESTROY and rule.disposal.executor == rule.disposal.witness:
            yield ("retention", at, "disposal", "witness"), "the witness holds another office than the executor"
