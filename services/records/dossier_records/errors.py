"""What the records service refuses, and why.

Forbidden
├── DutyConflict          an officer asks for content (A4.34)
├── NotQualified          no valid agreement, training or vetting (B2.5.4)
├── ClearanceTooLow       the level is above the caller's clearance
├── NoNeedToKnow          the level shows this to nobody but the custodian and the named
├── AnotherUnit           the caller holds no such office in the unit, or above it
├── GrantRequired         names the approvals that would be needed (A8.17)
├── GrantExhausted        all uses are used
├── PurposeNotCovered     neither consent, contract nor law covers the purpose (B5.2)
├── NotTheSuccessor       only the successor signs for what he is given
└── OutsideHours          not at this hour
Invalid
├── IncompleteRecord      required fields are missing (A8.4)
├── OutsidePlan           fields or purposes that the collection plan does not name (E.采集流程)
└── UnreadableFile        the spreadsheet cannot be read at all
Conflict
├── DuplicateRecord       a record with this identifier exists (D.4.2.1)
├── PlanClosed            the plan's time is over
├── LevelTooLow           the fields are classified higher than the record (D.4.1.3)
└── WrongState            the thing is not in the state for it
Problem
└── DamagedRecord         what is stored of the content is not what was sealed
"""

from dossier_common.problems import Conflict, Forbidden, Invalid, Problem, Words


class DutyConflict(Forbidden):
    """Officers see no content, whatever else they hold (三员分立, A4.34)."""

    slug = "duty-conflict"
    words = Words("职责冲突：三员不得接触客户信息内容", "Officers see no content")


class NotQualified(Forbidden):
    """No access without a valid agreement and a passed training (B2.5.4)."""

    slug = "not-qualified"
    words = Words("未签保密协议或未通过培训", "A qualification is missing or has expired")


class ClearanceTooLow(Forbidden):
    """The level is above the caller's clearance."""

    slug = "clearance-too-low"
    words = Words("涉密等级不足", "The clearance is too low")


class NoNeedToKnow(Forbidden):
    """Not in the circle of those who may know (知晓范围)."""

    slug = "no-need-to-know"
    words = Words("不在知晓范围内", "No need to know")


class AnotherUnit(Forbidden):
    """A role is held in a unit, and counts there and below (A4.34, B3.4.1)."""

    slug = "another-unit"
    words = Words("不在您任职的部门范围内", "Your office does not reach this unit")


class GrantRequired(Forbidden):
    """Nobody views at will (A8.17): names the approvals that would be needed."""

    slug = "grant-required"
    words = Words("需要审批授权", "An approval is needed")


class GrantExhausted(Forbidden):
    """All uses of the grant are used."""

    slug = "grant-exhausted"
    words = Words("授权次数已用完", "The grant is used up")


class PurposeNotCovered(Forbidden):
    """Every use names a purpose that consent, contract or law covers (B5.2)."""

    slug = "purpose-not-covered"
    words = Words("使用目的未获同意、合同或法律支持", "The purpose is not covered")


class NotTheSuccessor(Forbidden):
    """A list of custody is signed for by who takes it over (A5.3)."""

    slug = "not-the-successor"
    words = Words("仅接任人可以签收", "Only the successor signs for the list")


class OutsideHours(Forbidden):
    """Use at the named hours only."""

    slug = "outside-hours"
    words = Words("不在允许的时间", "Not at this hour")


class IncompleteRecord(Invalid):
    """Required fields are missing, or values are wrong; `errors` lists them (A8.4)."""

    slug = "incomplete-record"
    words = Words("客户档案不完整或有误", "The record is incomplete or wrong")


class OutsidePlan(Invalid):
    """The collection plan names neither this field nor this purpose (E.采集流程)."""

    slug = "outside-plan"
    words = Words("超出采集计划", "Outside the collection plan")


class UnreadableFile(Invalid):
    """The spreadsheet cannot be read at all."""

    slug = "unreadable-file"
    words = Words("文件无法读取", "The file cannot be read")


class DuplicateRecord(Conflict):
    """One authoritative store: a record with this identifier exists (D.4.2.1)."""

    slug = "duplicate-record"
    words = Words("客户档案已存在", "The record exists already")


class PlanClosed(Conflict):
    """The plan's time is over (B5.2)."""

    slug = "plan-closed"
    words = Words("采集计划已结束", "The collection plan is closed")


class LevelTooLow(Conflict):
    """Fields that the pack classifies higher than the record cannot enter it (D.4.1.3)."""

    slug = "level-too-low"
    words = Words("档案密级低于该信息所需密级", "The record's level is too low for this")


class WrongState(Conflict):
    """The thing is not in a state that allows this."""

    slug = "wrong-state"
    words = Words("当前状态不允许", "Not in this state")


class DamagedRecord(Problem):
    """What is stored of the content is not what was sealed: moved, cut or changed in the database."""

    slug = "damaged-record"
    words = Words("客户档案内容已损坏", "The stored content is damaged")
