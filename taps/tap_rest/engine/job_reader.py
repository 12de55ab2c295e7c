"""One unit whose records are the result of a job: which step comes next, and what an answer means for the job.

Stands where a Reader stands; the pages of a result are read as a Reader reads any. Each step is a request like others,
so the errand in STATE and the unit are all that a killed run needs to go on in any phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tap_rest.engine.checkpoint import Checkpoint, Unit
from tap_rest.engine.reader import Reader
from tap_rest.engine.sending import Answer, Ask, InDoubt
from tap_rest.errors import PaginationLoop, RequestRefused, TapError
from tap_rest.language.jobs import STEPS, Errand, Job
from tap_rest.language.paging import End
from tap_rest.language.replication import duration
from tap_rest.limits.quota_headers import retry_after
from tap_rest.request import Request

LONGEST_SAID = 2000


class JobFailed(TapError):
    """No job of a unit came to a result; the next run orders a new one."""


class JobReader(Reader):
    """Walks through a unit.

    Args:
        unit: What to read.
        job: As declared.
        checkpoint: Where an earlier run was.
    """

    errand: Errand

    def __init__(self, unit: Unit, job: Job, checkpoint: Checkpoint | None = None) -> None:
        super().__init__(unit, checkpoint)
        self._job = job
        self._pause = self._waited = 0.0
        self._why = self._said = ""
        self._refreshed = False
        self.errand = (checkpoint and checkpoint.errand) or Errand()
        self.phase = self.errand.phase
        if checkpoint is None:
            self.request = unit.request

    def ask(self) -> Ask:
        page, waited = self.walk.evidence.pages + 1, self._waited if self.phase == "poll" else 0.0
        return Ask(self.unit, self.request, None, self._pause, self._why, page=page, phase=self.phase, waited=waited)

    def take(self, answer: Answer) -> Ask | None:
        return None if self.phase in STEPS else super().take(answer)

    def records(self, answer: Answer) -> Iterator[Sequence[bytes]]:
        return iter(()) if self.phase in STEPS else super().records(answer)

    def following(self, answer: Answer) -> Request | End:
        """What follows an answer. Raises UnexpectedPage, and JobFailed when no further job may be ordered."""
        if self.phase == "clean_up":
            return self._cleaned_up(answer)
        if self.phase in STEPS and not isinstance(answer.following, End):
            return self._submitted(answer) if self.phase == "submit" else self._polled(answer)
        following = super().following(answer)
        return self._over(following) if isinstance(following, End) else following

    def mended(self, error: TapError) -> Ask:
        if isinstance(error, InDoubt):
            self._failed(f"a job may have been ordered that is not known: {error.problem}")
        elif self.phase == "file" and isinstance(error, RequestRefused) and not self._refreshed:
            self._refreshed = True
            self._enter(self.errand, why=f"the file can't be had ({error.problem}), its URL may have expired")
        elif isinstance(error, PaginationLoop):
            self.errand = msgspec.structs.replace(self.errand, failures=self._job.tries)
            self._failed(error.problem)
        else:
            raise error
        return self.ask()

    def abandoned(self) -> Ask | None:
        if self._job.delete is None or not self.errand.id or self.phase == "clean_up":
            return None
        self._enter(msgspec.structs.replace(self.errand, phase="clean_up"))
        return self.ask()

    def _submitted(self, answer: Answer) -> Request:
        errand = msgspec.structs.replace(
            self.errand, phase="poll", id=self._job.submitted(answer.page), since=answer.came
        )
        return self._enter(errand, self._every(answer), f"the job {errand.id}")

    def _polled(self, answer: Answer) -> Request:
        job, errand, page = self._job, self.errand, answer.page
        how, status = job.polled(page)
        if how == "done" and job.result is not None:
            return self._enter(msgspec.structs.replace(errand, phase="page"))
        if how == "done":
            self.phase, self._pause, self._why = "file", 0.0, ""
            self.request = self.unit.stream.accepting(job.file(self.request, page))
            return self.request
        overdue = answer.came - errand.since >= duration(job.timeout).total_seconds()
        if how == "running" and not overdue:
            return self._enter(errand, self._every(answer), f"the job {errand.id}, {status},")
        if len(page.body) <= LONGEST_SAID:  # a part might hold half a secret, which nobody knows as one
            self._said = " ".join(page.body.decode(errors="replace").split())
        ended = f"is still {status} after {job.timeout}" if how == "running" else f"ended as {status}"
        return self._failed(f"the job {errand.id} {ended}")

    def _over(self, end: End) -> Request | End:
        """What follows the end of the reading: the job is cleaned up first."""
        if self._job.delete is None or not self.errand.id:
            return end
        return self._enter(msgspec.structs.replace(self.errand, phase="clean_up", end=end))

    def _cleaned_up(self, answer: Answer) -> Request | End:
        if answer.left_out is not None:
            self.walk.warn(f"the job {self.errand.id} could not be deleted: {answer.left_out.reason}")
        return self._anew() if self.errand.end is None else self.errand.end

    def _failed(self, problem: str) -> Request:
        """What follows a job that came to nothing."""
        self.walk.warn(problem)
        self.errand = msgspec.structs.replace(self.errand, failures=self.errand.failures + 1, problem=problem)
        if self._job.delete is None or not self.errand.id:
            return self._anew()
        return self._enter(msgspec.structs.replace(self.errand, phase="clean_up"), why=problem)

    def _anew(self) -> Request:
        failures, problem = self.errand.failures, self.errand.problem
        if failures >= self._job.tries:
            hint = f"the API said {self._said}" if self._said else ""
            raise JobFailed(problem, where=self.unit.name, hint=hint)
        return self._enter(Errand(failures=failures, problem=problem), self._every(), f"{problem}: a new one")

    def _every(self, answer: Answer | None = None) -> float:
        """Seconds to wait before the next poll, or order."""
        asked = answer and retry_after(answer.page.headers, now=answer.came)
        return max(duration(self._job.every).total_seconds(), asked or 0.0)

    def _enter(self, errand: Errand, pause: float = 0.0, why: str = "") -> Request:
        """The first request of a phase, or the next poll."""
        self._waited = 0.0 if errand.phase == "submit" else self._waited + self._pause
        self._pause, self._why = pause, why
        self.errand, self.phase, self.plan = errand, errand.phase, iter(())
        self.request = self.unit.asked(errand)
        if errand.phase == "page":
            self.request = self._paginator.first(self.request)
        return self.request


def reader_of(
    unit: Unit,
    checkpoint: Checkpoint | None = None,
    token: str | None = None,
    validators: tuple[str, str, str] | None = None,
) -> Reader:
    """What walks through a unit (see Reader)."""
    job = unit.stream.declared.job
    return Reader(unit, checkpoint, token, validators) if job is None else JobReader(unit, job, checkpoint)
