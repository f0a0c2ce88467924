"""Synthetic customers as a Chinese office would send them: persons and organisations with correct check digits.

The same seed gives the same rows and the same bytes. Nobody in them exists; names, phones and identifiers are
distinct and unmistakable, so that a search for any of them in a data directory proves something.
"""

import random
from collections.abc import Sequence
from datetime import date, timedelta

from dossier_local.identifiers import CREDIT_ALPHABET, credit_code, resident_id

SEED = 8
REFERENCE_DAY = date(2026, 11, 1)  # "recent" and "long ago" are counted from here, so that no run depends on its day
PERSON, ORGANISATION = "个人客户", "单位客户"
IMPORTANCES = ("一般", "重要", "核心")

COLUMNS: dict[str, tuple[str, str]] = {
    "name": ("姓名", "Name"),
    "sex": ("性别", "Sex"),
    "birth_date": ("出生日期", "Date of birth"),
    "identifier_type": ("证件类型", "ID type"),
    "identifier": ("证件号码", "ID number"),
    "phone": ("联系电话", "Phone"),
    "address": ("联系地址", "Address"),
    "postcode": ("邮编", "Postcode"),
    "email": ("电子邮箱", "E-mail"),
    "customer_type": ("客户类别", "Customer type"),
    "importance": ("重要程度", "Importance"),
    "opened_on": ("建档日期", "Opened on"),
    "relationship_ended_on": ("关系终止日期", "Relationship ended on"),
    "remarks": ("备注", "Remarks"),
    "legal_representative": ("法定代表人", "Legal representative"),
}
DATES = ("birth_date", "opened_on", "relationship_ended_on")

_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜谢邹喻柏窦章苏潘葛奚范彭郎鲁韦马苗"
# none ends in a simple surname: no name may be found inside another
_COMPOUND_SURNAMES = ("欧阳", "上官", "东方", "皇甫", "尉迟", "慕容", "令狐", "宇文", "司徒", "夏侯", "端木", "轩辕")
_GIVEN_FIRST = "昱璟瑾翊烨澜霖煦楷珩琰曜宸骁逸谨衍舜翎骞"
_GIVEN_SECOND = "淇薇彤澄瑶涵嫣茜蓉菡钰霏婵筠绮溪祺沅恺珞"
_BRANDS = ("璟泽", "翊辰", "衡拓", "澜禾", "骏驰", "曜石", "霖丰", "钰成", "恺悦", "宸宇", "沅江", "筠竹")
_TRADES = (
    "信息技术",
    "供应链管理",
    "医疗器械",
    "生态农业",
    "精密制造",
    "文化传播",
    "物业服务",
    "新能源科技",
    "环境工程",
    "食品加工",
)
_STREETS = ("青禾路", "望江街", "松柏路", "云栖大道", "明德街", "双桥路", "锦绣大道", "学府路", "临湖路", "东风街")
_REMARKS = ("", "", "", "偏好邮件联系", "每季度回访一次", "资料已于柜台核对", "由老客户介绍", "需要开具增值税专用发票")
_REGIONS = (
    ("110101", "北京市东城区", "100010"),
    ("110105", "北京市朝阳区", "100020"),
    ("110108", "北京市海淀区", "100080"),
    ("120101", "天津市和平区", "300041"),
    ("310104", "上海市徐汇区", "200030"),
    ("310110", "上海市杨浦区", "200082"),
    ("440103", "广东省广州市荔湾区", "510145"),
    ("440104", "广东省广州市越秀区", "510030"),
    ("320102", "江苏省南京市玄武区", "210018"),
    ("330106", "浙江省杭州市西湖区", "310013"),
    ("420106", "湖北省武汉市武昌区", "430061"),
    ("610103", "陕西省西安市碑林区", "710001"),
    ("370202", "山东省青岛市市南区", "266001"),
    ("350203", "福建省厦门市思明区", "361001"),
    ("210102", "辽宁省沈阳市和平区", "110001"),
    ("620102", "甘肃省兰州市城关区", "730030"),
)

Row = dict[str, str]


class Source:
    """Draws that never repeat where a repetition would blur which row a value belongs to."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  synthetic data must be repeatable, not secret
        self._drawn: set[str] = set()

    def once(self, *parts: Sequence[str]) -> str:
        """A new combination of one choice from each part; ends as long as a tenth of them is free."""
        while True:
            value = "".join(self.random.choice(part) for part in parts)
            if value not in self._drawn:
                self._drawn.add(value)
                return value

    def name(self) -> str:
        surnames = _COMPOUND_SURNAMES if self.random.random() < 0.1 else _SURNAMES
        return self.once(surnames, _GIVEN_FIRST, _GIVEN_SECOND)

    def phone(self) -> str:
        return self.once(("131", "136", "139", "150", "158", "177", "186", "199"), *(["0123456789"] * 8))

    def resident(self, region: str, born: date, *, male: bool) -> str:
        while True:
            number = resident_id(region, born, 2 * self.random.randrange(50, 450) + male)
            if number not in self._drawn:
                self._drawn.add(number)
                return number

    def credit(self, region: str) -> str:
        return credit_code(region, "MA" + self.once(*([CREDIT_ALPHABET] * 7)))

    def day(self, first: date, last: date) -> date:
        return first + timedelta(days=self.random.randint(0, (last - first).days))


def _common(source: Source) -> tuple[str, Row]:
    """What persons and organisations share, and the region they live in."""
    region, place, postcode = source.random.choice(_REGIONS)
    street = source.random.choice(_STREETS)
    opened = source.day(date(2008, 1, 1), date(2014, 12, 31))
    ended, share = "", source.random.random()
    if share < 0.1:
        ended = source.day(date(2015, 1, 1), date(REFERENCE_DAY.year - 7, 12, 31)).isoformat()
    elif share < 0.2:
        ended = source.day(REFERENCE_DAY - timedelta(days=300), REFERENCE_DAY - timedelta(days=1)).isoformat()
    elif share < 0.8:
        opened = source.day(date(2015, 1, 1), date(2026, 6, 30))
    importance = source.random.choices(IMPORTANCES, (70, 22, 8))[0]
    return region, {
        "phone": source.phone(),
        "address": f"{place}{street}{source.random.randint(1, 399)}号{source.random.randint(1, 28)}栋",
        "postcode": postcode,
        "importance": importance,
        "opened_on": opened.isoformat(),
        "relationship_ended_on": ended,
        "remarks": source.random.choice(_REMARKS),
    }


def person(source: Source) -> Row:
    region, common = _common(source)
    born = source.day(date(1950, 1, 1), date(2004, 12, 31))
    male = source.random.random() < 0.5
    return common | {
        "name": source.name(),
        "sex": "男" if male else "女",
        "birth_date": born.isoformat(),
        "identifier_type": "居民身份证",
        "identifier": source.resident(region, born, male=male),
        "email": f"{source.once(*(['abcdefghjkmnpqrstuvwxyz'] * 8))}@example.com",
        "customer_type": PERSON,
        "legal_representative": "",
    }


def organisation(source: Source) -> Row:
    region, common = _common(source)
    city = common["address"][:2] if common["address"][2] == "市" else common["address"][3:5]
    return common | {
        "name": source.once([city], _BRANDS, _TRADES, ["有限公司", "股份有限公司"]),
        "sex": "",
        "birth_date": "",
        "identifier_type": "统一社会信用代码",
        "identifier": source.credit(region),
        "email": f"office.{source.once(*(['abcdefghjkmnpqrstuvwxyz'] * 8))}@example.com",
        "customer_type": ORGANISATION,
        "legal_representative": source.name(),
    }


def ordered(row: Row) -> Row:
    """The row with its columns in the order of the sheet."""
    return {column: row[column] for column in COLUMNS}


def good(source: Source, count: int) -> list[Row]:
    """Rows that an importer must accept: 85 % persons and 15 % organisations."""
    return [ordered(organisation(source) if index % 20 in {3, 10, 17} else person(source)) for index in range(count)]


def rows(seed: int = SEED, count: int = 1000) -> list[Row]:
    """`good` rows of this seed."""
    return good(Source(seed), count)
