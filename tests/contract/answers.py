"""Whether an answer is one that the API's document describes, by the checks of schemathesis."""

from collections.abc import Mapping
from typing import Any, Final

import httpx
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

_CHECKS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
)
CHECKS: Final = tuple(each.__name__ for each in _CHECKS)
"""Their names, for the command line."""


class Documented:
    """The answers of `/openapi.json`."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._schema = schemathesis.openapi.from_dict(dict(document))

    def fault(self, operation: str, path: Mapping[str, str], answer: httpx.Response) -> str | None:
        """What is not as documented, or None; `path` has the values of the address's parameters."""
        case = self._schema.find_operation_by_id(operation).Case(path_parameters=dict(path))
        try:
            case.validate_response(answer, checks=list(_CHECKS))
        except FailureGroup as found:
            return "; ".join(f"{each.title}: {each.message}" for each in found.exceptions)
        return None
