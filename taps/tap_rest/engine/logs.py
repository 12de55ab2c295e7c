"""Log lines: no secret is in any, and each says which request it is about, where there is one."""

from __future__ import annotations

import logging
import traceback

from tap_rest.engine.attempts import about
from tap_rest.redaction import Redactor


class Masking(logging.Filter):
    """Stands before the handlers of the process, so that no log call, of whatever library, can leak.

    A traceback becomes part of the message.

    Attributes:
        redactor: Of the present run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.redactor = Redactor()

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a call whose arguments don't fit its message
            text = f"{record.msg} {record.args}"
        if record.exc_info:
            text = f"{text}\n{''.join(traceback.format_exception(*record.exc_info))}".rstrip()
        record.msg, record.args = self.redactor.text(text), ()
        record.exc_info = record.exc_text = record.stack_info = None
        for name, value in about.get().items():
            vars(record).setdefault(name, value)
        return True


MASKING = Masking()
