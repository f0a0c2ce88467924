"""Errors of the audit service.

NotFound 404
├── EventUnknown
└── NotInLog
Forbidden 403
└── ForeignReceipt
Unavailable 503
└── NotYetProvable
"""

from dossier_common.problems import Forbidden, NotFound, Unavailable, Words


class EventUnknown(NotFound):
    """No event with this id was ingested."""

    words = Words("没有该审计事件", "No such event")


class ForeignReceipt(Forbidden):
    """A producer asked for the receipt of another."""

    slug = "foreign-receipt"
    words = Words("只能查询本部分的回执", "A producer asks for its own receipt only")


class NotInLog(NotFound):
    """A log, a checkpoint or a tile that is not there."""

    words = Words("日志中没有该内容", "Not in the log")


class NotYetProvable(Unavailable):
    """An event is provable once a published checkpoint covers it, mostly within a second; repeating helps."""

    slug = "not-yet-provable"
    words = Words("该事件尚未写入已发布的检查点", "Not yet under a published checkpoint")
