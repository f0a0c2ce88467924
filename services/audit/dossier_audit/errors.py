"""Errors of the audit service.

NotFound 404
└── EventUnknown
Forbidden 403
└── ForeignReceipt
"""

from dossier_common.problems import Forbidden, NotFound, Words


class EventUnknown(NotFound):
    """No event with this id was ingested."""

    words = Words("没有该审计事件", "No such event")


class ForeignReceipt(Forbidden):
    """A producer asked for the receipt of another."""

    slug = "foreign-receipt"
    words = Words("只能查询本部分的回执", "A producer asks for its own receipt only")
