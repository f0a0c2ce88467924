"""Who the demo organisation consists of. Nobody exists, and no customer of the synthetic files has such a name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

COMPANY: Final = "example-services"
SERVICE: Final = "customer-service"
SALES: Final = "sales"
COMPLIANCE: Final = "compliance"
QUALITY: Final = "quality"
GROUP: Final = "group"
"""The root, which the ceremony makes."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit to be made; `parent` is the code of another, and parents come first."""

    code: str
    zh: str
    en: str
    kind: str
    parent: str


UNITS: Final = (
    Unit(COMPANY, "示例服务有限公司", "Example Services Ltd", "company", GROUP),
    Unit(SERVICE, "客户服务部", "Customer service", "department", COMPANY),
    Unit(SALES, "销售部", "Sales", "department", COMPANY),
    Unit(COMPLIANCE, "合规部", "Compliance", "department", COMPANY),
    Unit(QUALITY, "品质管理部", "Quality", "department", COMPANY),
)


@dataclass(frozen=True, slots=True)
class Person:
    """A person with one account. A role is held in the home unit unless `roles` names another."""

    username: str
    name: str
    unit: str
    roles: Mapping[str, str | None]
    clearance: str = "confidential"


OFFICERS: Final[Mapping[str, tuple[str, str]]] = {
    "system_administrator": ("wei.guo", "魏国"),
    "security_administrator": ("luo.an", "罗安"),
    "security_auditor": ("shen.cha", "沈察"),
}
"""Role → username and name of the three officers (三员), whom the ceremony makes."""

PEOPLE: Final = (
    Person("fang.min", "方敏", COMPANY, {"general_manager": None, "department_head": None}, clearance="top_secret"),
    Person("liu.yang", "刘洋", SERVICE, {"service_manager": None}, clearance="top_secret"),
    Person("chen.jing", "陈静", SERVICE, {"information_supervisor": None}, clearance="top_secret"),
    Person("zhang.li", "张丽", SERVICE, {"records_clerk": None}, clearance="top_secret"),
    Person("wang.qiang", "王强", SERVICE, {"records_clerk": None}, clearance="top_secret"),
    Person("ma.lin", "马琳", SERVICE, {"information_officer": None}),
    Person("he.jie", "何洁", SERVICE, {"seat_agent": None}, clearance="internal"),
    Person("li.na", "李娜", SALES, {"collector": None}, clearance="secret"),
    Person("zhao.jun", "赵军", SALES, {"department_head": None}),
    Person("sun.tao", "孙涛", SALES, {"department_head": None}),
    Person("xu.dan", "徐丹", COMPLIANCE, {"compliance_officer": COMPANY}),
    Person("gao.feng", "高峰", QUALITY, {"inspector": COMPANY}),
)
"""Compliance and inspection are offices of the company, and so competent in all of its departments."""

ADMINISTRATOR, SECURITY, AUDITOR = (OFFICERS[role][0] for role in OFFICERS)
