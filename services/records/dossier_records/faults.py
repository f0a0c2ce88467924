"""What can be wrong with a value or a row, and how it is said to people.

A fault names a field and a code and never the value (invariant 7). An error refuses the record, a warning is shown and
kept with it: genuine credit codes exist whose check character is wrong (GB 32100-2015), and cards that fail Luhn.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dossier_common.problems import Words


class Severity(StrEnum):
    """Whether a fault refuses the record."""

    ERROR = "error"
    WARNING = "warning"


class FaultCode(StrEnum):
    """Stable names that clients rely on."""

    REQUIRED = "required"
    OUTSIDE_FORM = "outside-form"
    UNKNOWN_FIELD = "unknown-field"
    TOO_LONG = "too-long"
    CONTROL_CHARACTER = "control-character"
    FORMULA = "formula"
    NAME_FORMAT = "name-format"
    SEX_UNKNOWN = "sex-unknown"
    SEX_CONTRADICTS = "sex-contradicts"
    DATE_IMPOSSIBLE = "date-impossible"
    DATE_OUT_OF_RANGE = "date-out-of-range"
    DATE_IN_FUTURE = "date-in-future"
    BIRTH_DATE_CONTRADICTS = "birth-date-contradicts"
    ENDED_BEFORE_OPENING = "ended-before-opening"
    IDENTIFIER_TYPE_UNKNOWN = "identifier-type-unknown"
    IDENTIFIER_FORMAT = "identifier-format"
    IDENTIFIER_REGION = "identifier-region"
    IDENTIFIER_DATE = "identifier-date"
    IDENTIFIER_CHECK_DIGIT = "identifier-check-digit"
    CREDIT_CODE_CHECK_DIGIT = "credit-code-check-digit"
    PHONE_FORMAT = "phone-format"
    EMAIL_FORMAT = "email-format"
    POSTCODE_FORMAT = "postcode-format"
    CARD_FORMAT = "card-format"
    CARD_CHECK_DIGIT = "card-check-digit"
    NUMBER_FORMAT = "number-format"
    CUSTOMER_TYPE_UNKNOWN = "customer-type-unknown"
    IMPORTANCE_UNKNOWN = "importance-unknown"
    DUPLICATE = "duplicate"
    EXTRA_CELLS = "extra-cells"


TITLES: dict[FaultCode, Words] = {
    FaultCode.REQUIRED: Words("缺少必填项", "A required field is missing"),
    FaultCode.OUTSIDE_FORM: Words("该类客户的表单不含此项", "The form of this kind of customer has no such field"),
    FaultCode.UNKNOWN_FIELD: Words("制度中没有此项", "The policy has no such field"),
    FaultCode.TOO_LONG: Words("内容超过规定长度", "The value is too long"),
    FaultCode.CONTROL_CHARACTER: Words("含有不可见的控制字符", "The value contains control characters"),
    FaultCode.FORMULA: Words("内容会被电子表格当作公式执行", "A spreadsheet would run the value as a formula"),
    FaultCode.NAME_FORMAT: Words("名称中没有文字", "The name has no letter"),
    FaultCode.SEX_UNKNOWN: Words("性别只能填男或女", "The sex is neither male nor female"),
    FaultCode.SEX_CONTRADICTS: Words("性别与身份证号码不符", "The sex contradicts the resident ID"),
    FaultCode.DATE_IMPOSSIBLE: Words("日期不存在或无法识别", "The date does not exist or cannot be read"),
    FaultCode.DATE_OUT_OF_RANGE: Words("日期早于 1850 年或晚于 2300 年", "The date is before 1850 or after 2300"),
    FaultCode.DATE_IN_FUTURE: Words("日期晚于今天", "The date is in the future"),
    FaultCode.BIRTH_DATE_CONTRADICTS: Words("出生日期与身份证号码不符", "The birth date contradicts the resident ID"),
    FaultCode.ENDED_BEFORE_OPENING: Words(
        "关系终止日期早于建档日期", "The relationship ended before the record was opened"
    ),
    FaultCode.IDENTIFIER_TYPE_UNKNOWN: Words("证件类型无法识别", "The type of identifier is unknown"),
    FaultCode.IDENTIFIER_FORMAT: Words(
        "证件号码的位数或字符不符合规定", "The identifier has a wrong length or characters"
    ),
    FaultCode.IDENTIFIER_REGION: Words(
        "证件号码中的行政区划代码不存在", "The identifier names a region that never existed"
    ),
    FaultCode.IDENTIFIER_DATE: Words("证件号码中的出生日期不存在", "The identifier contains a date that cannot be"),
    FaultCode.IDENTIFIER_CHECK_DIGIT: Words("身份证号码校验码错误", "The check digit of the resident ID is wrong"),
    FaultCode.CREDIT_CODE_CHECK_DIGIT: Words(
        "统一社会信用代码校验码不符,请核对", "The check character of the credit code does not fit; please compare"
    ),
    FaultCode.PHONE_FORMAT: Words("电话号码格式错误", "The phone number cannot be one"),
    FaultCode.EMAIL_FORMAT: Words("电子邮箱格式错误", "The e-mail address cannot be one"),
    FaultCode.POSTCODE_FORMAT: Words("邮政编码应为六位数字", "The postcode is not six digits"),
    FaultCode.CARD_FORMAT: Words("银行卡号应为 12 至 19 位数字", "The card number is not 12 to 19 digits"),
    FaultCode.CARD_CHECK_DIGIT: Words(
        "银行卡号校验位不符,请核对", "The check digit of the card does not fit; please compare"
    ),
    FaultCode.NUMBER_FORMAT: Words("不是数字", "The value is not a number"),
    FaultCode.CUSTOMER_TYPE_UNKNOWN: Words("客户类别无法识别", "The customer type is unknown"),
    FaultCode.IMPORTANCE_UNKNOWN: Words("重要程度无法识别", "The importance is unknown"),
    FaultCode.DUPLICATE: Words("与文件中前面一行的证件号码重复", "An earlier row of the file has the same identifier"),
    FaultCode.EXTRA_CELLS: Words("有内容超出表头所列的栏目", "A cell has content beyond the columns of the header"),
}

WARNINGS = frozenset({FaultCode.CREDIT_CODE_CHECK_DIGIT, FaultCode.CARD_CHECK_DIGIT})


@dataclass(frozen=True, slots=True)
class Fault:
    """`field` is a field or column id of the policy, empty where the row as a whole is meant."""

    field: str
    code: FaultCode

    @property
    def severity(self) -> Severity:
        """Follows from the code alone."""
        return Severity.WARNING if self.code in WARNINGS else Severity.ERROR

    @property
    def title(self) -> Words:
        """What people read."""
        return TITLES[self.code]


def refuses(found: Iterable[Fault]) -> bool:
    """Whether at least one fault is an error."""
    return any(fault.severity is Severity.ERROR for fault in found)
