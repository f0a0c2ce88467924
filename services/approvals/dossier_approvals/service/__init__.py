"""Use cases: load, decide, change, emit; a function each."""

from dossier_approvals.service.deadlines import enforce_time_limit
from dossier_approvals.service.decisions import decide_task
from dossier_approvals.service.emergencies import (
    flag_overdue_review,
    list_emergencies,
    review_emergency,
    show_emergency,
    use_emergency,
)
from dossier_approvals.service.grants import (
    count_use,
    end_record,
    list_grants,
    resolve_grant,
    return_grant,
    revoke_grant,
    show_grant,
)
from dossier_approvals.service.leavers import offboard
from dossier_approvals.service.requests import create_request, open_disposal, preview_request, withdraw_request
from dossier_approvals.service.vacancies import fill as fill_vacancies
from dossier_approvals.service.views import list_requests, list_tasks, show_request

__all__ = [
    "count_use",
    "create_request",
    "decide_task",
    "end_record",
    "enforce_time_limit",
    "fill_vacancies",
    "flag_overdue_review",
    "list_emergencies",
    "list_grants",
    "list_requests",
    "list_tasks",
    "offboard",
    "open_disposal",
    "preview_request",
    "resolve_grant",
    "return_grant",
    "review_emergency",
    "revoke_grant",
    "show_emergency",
    "show_grant",
    "show_request",
    "use_emergency",
    "withdraw_request",
]
