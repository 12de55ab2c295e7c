"""Which days are proved, which are not and why: a query over what taps have claimed and what is held."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_archive.commit import FORMAT, Commit, StreamFacts
from target_archive.coverage import GAPS, PROVED, Coverage, Stretch, evidence, unbroken
from target_archive.log import Claim, Held, Log

TODAY = date(2024, 5, 10)
MARKS = {
    "present": "P", "empty": "e", "empty_suspect": "s", "partial": "p", "failed": "f", "unavailable": "n",
    "unknown": "?", "out_of_scope": "-", "open": "o",
}  # fmt: skip


def claim(start: str | None, end: str, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, **more}


def add(made: Log, stream: str, rows: Mapping[date, int], claims: Iterable[dict[str, Any]], **facts: Any) -> None:
    """A stream filed by `at`; a claim without `seq` is of commit 1."""
    facts = {"folder": stream, "day_field": "at", "bookmark_properties": ("at",)} | facts
    made.streams[stream] = StreamFacts(**facts)
    made.held[stream] = {day.isoformat(): Held(grown=[(1, count)]) for day, count in rows.items()}
    made.claims[stream] = [Claim(**{"seq": 1, "status": "complete", **one}) for one in claims]


def log(held: Iterable[int], claims: Iterable[dict[str, Any]], **facts: Any) -> Log:
    """A log of 99 commits, one an hour, with a stream that has lines on these days of May 2024."""
    made = Log("model", times=[f"2024-05-{1 + hour // 24:02d}T{hour % 24:02d}:00:00.000Z" for hour in range(99)])
    add(made, "s", {date(2024, 5, day): 1 for day in held}, claims, **facts)
    return made


def shown(made: Log, today: date = TODAY) -> str:
    return "".join(MARKS[status] for status in Coverage(made, today).statuses("s").values())


def gaps(made: Log) -> list[Stretch]:
    return Coverage(made, TODAY).gaps("s")


WHOLE = claim(None, "2024-05-03T06:00:00Z")
FAILED = claim("2024-05-03T06:00:00Z", "2024-05-08T06:00:00Z", status="partial", reason="status 500", http=500, seq=7)


@pytest.mark.case("R001-17")
@pytest.mark.parametrize(
    ("held", "claims", "expected"),
    [  # the days are 1 to 10 May; 10 May is today
        ([1, 3], [claim(None, "2024-05-10T06:00:00Z")], "PePeeeeeeo"),
        ([1, 3], [], "p?p??????o"),
        ([1, 3], [WHOLE], "Pep??????o"),
        ([1, 9], [WHOLE, claim("2024-05-03T05:00:00Z", "2024-05-10T06:00:00Z")], "PeeeeeeePo"),
        ([1, 9], [WHOLE, claim("2024-05-06T05:00:00Z", "2024-05-10T06:00:00Z")], "Pe????eePo"),
        ([5], [claim("2024-05-03T00:00:00Z", "2024-05-10T06:00:00Z")], "eePeeeeo"),
        ([5], [claim("2024-05-03", "2024-05-10")], "eePeeeeo"),
        ([3, 9], [claim("2024-05-05", "2024-05-07")], "p-ee??po"),
        ([5], [claim(None, "2024-05-10T06:00:00Z", status="partial", reason="limit")], "p????o"),
        ([5], [claim(None, "2024-05-10T06:00:00Z", status="partial", reason="status 500")], "pffffo"),
        ([], [claim("2024-05-07", "2024-05-09T12:00:00Z", status="partial", http=404)], "nnno"),
        ([], [claim(None, "2024-05-10T06:00:00Z", status="partial", http=500)], "fo"),
        ([], [claim(None, "2024-05-10T06:00:00Z")], "eo"),
        ([1, 5], [WHOLE, FAILED], "Peffpfff?o"),
        ([1, 5], [WHOLE, FAILED, claim("2024-05-03T04:00:00Z", "2024-05-06T06:00:00Z", seq=8)], "PeeePfff?o"),
        ([1, 5], [WHOLE, FAILED, claim("2024-05-03T04:00:00Z", "2024-05-06T06:00:00Z", seq=6)], "PeeePfff?o"),
        ([10], [claim(None, "2024-05-10T06:00:00Z")], "eo"),
        ([9], [claim(None, "2024-05-07T06:00:00Z")], "e??po"),
        ([10, 14], [], "oo"),
        ([1], [claim(None, "2024-05-10T06:00:00Z", partition={"a": 1}), WHOLE | {"partition": {"a": 2}}], "Pe???????o"),
        ([1], [WHOLE | {"partition": {"a": 2}}, claim(None, "2024-05-10T06:00:00Z", partition={"a": 1})], "Pe???????o"),
        ([1], [claim("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")], "Peeeeeeeeo"),
        ([1], [claim("12345", "2024-05-10T06:00:00Z"), claim(None, "never")], "p????????o"),
        ([], [], ""),
    ],
)  # fmt: skip
def test_a_day_has_the_status_that_is_proved(held: list[int], claims: list[dict[str, Any]], expected: str) -> None:
    assert shown(log(held, claims)) == expected


def test_a_read_by_another_field_proves_days_only_from_the_beginning_on() -> None:
    since = claim("2024-05-03T05:00:00Z", "2024-05-10T06:00:00Z")
    assert shown(log([1, 9], [since], bookmark_properties=("updated",))) == "p-??????po"
    assert shown(log([1, 9], [WHOLE, since], bookmark_properties=("updated",))) == "PeeeeeeePo"


def test_days_are_those_of_the_streams_time_zone() -> None:
    late = claim(None, "2024-05-03T01:00:00Z")
    assert shown(log([1], [late], timezone="America/New_York")) == "P????????o"
    assert shown(log([1], [late])) == "Pe???????o"
    assert shown(log([1], [claim("2024-05-01", "2024-05-04")], timezone="Pacific/Kiritimati")) == "Pee??????o"
    today = datetime.now(UTC) + timedelta(hours=14)
    made = Log("model")
    add(made, "s", {today.date(): 1}, [], timezone="Pacific/Kiritimati")
    assert list(Coverage(made).statuses("s").values()) == ["open"], "it is that day there, whatever it is in UTC"


def test_dates_at_the_ends_of_the_calendar_are_days_like_others() -> None:
    made = Log("model")
    add(made, "s", {date(1, 1, 1): 1, date(9999, 12, 31): 1}, [claim("2024-05-01", "2024-05-10")])
    statuses = Coverage(made, TODAY).statuses("s")
    assert (statuses["0001-01-01"], statuses["2024-04-30"], statuses["9999-12-31"]) == (
        "partial", "out_of_scope", "open",
    )  # fmt: skip
    assert len(statuses) == TODAY.toordinal() + 1


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"status": "partial", "http": 500}, ("failed", "transient")),
        ({"status": "partial", "http": 0}, ("failed", "transient")),
        ({"status": "partial", "http": 429}, ("failed", "transient")),
        ({"status": "partial", "http": 401}, ("failed", "auth")),
        ({"status": "partial", "http": 403}, ("failed", "auth")),
        ({"status": "partial", "http": 200}, ("failed", "data")),
        ({"status": "partial", "http": 422}, ("failed", "refused")),
        ({"status": "partial", "http": 410}, ("unavailable", "gone")),
        ({"status": "skipped", "http": 404}, ("unavailable", "gone")),
        ({"status": "skipped", "http": 403}, ("unavailable", "forbidden")),
        ({"status": "skipped", "http": 200}, ("unavailable", "skipped")),
        ({"status": "skipped", "reason": "retention"}, ("unavailable", "retention")),
    ],
)
def test_what_could_not_be_read_tells_why(told: dict[str, Any], expected: tuple[str, str]) -> None:
    (gap,) = gaps(log([], [claim("2024-05-08", "2024-05-10", seq=4, **{"reason": "said so"} | told)]))
    assert (gap.status, gap.cause) == expected
    assert (gap.first, gap.last, gap.commit, gap.reason) == (
        "2024-05-08", "2024-05-09", 4, told.get("reason", "said so"),
    )  # fmt: skip


def test_gaps_are_stretches_with_their_reason_and_the_commit_that_tells_it() -> None:
    later = FAILED | {"start": "2024-05-07T00:00:00Z", "seq": 9, "reason": "status 503"}
    found = gaps(log([1, 2, 5], [claim(None, "2024-05-02T00:00:00Z"), FAILED, later]))
    assert [(gap.first[-2:], gap.last[-2:], gap.days, gap.status, gap.commit) for gap in found] == [
        ("02", "02", 1, "partial", 0),
        ("03", "04", 2, "failed", 7),
        ("05", "05", 1, "partial", 7),
        ("06", "06", 1, "failed", 7),
        ("07", "08", 2, "failed", 9),
        ("09", "09", 1, "unknown", 0),
    ]
    assert found[0].reason == "records are held, but no run has proved the days complete"
    assert (found[1].reason, found[4].reason) == ("status 500", "status 503")
    assert found[2].reason == f"{found[0].reason}: status 500"
    assert found[5].reason == "no run has covered these days"


def test_lines_that_a_repair_found_lost_make_a_day_partial_until_it_is_read_again() -> None:
    whole = claim(None, "2024-05-10T06:00:00Z")
    made = log([8, 9], [whole | {"seq": 3}])
    made.held["s"]["2024-05-09"].lost = 4
    made.held["s"]["2024-05-08"] = Held(lost=4)
    assert shown(made) == "ppo"
    assert [(gap.first, gap.cause, gap.commit) for gap in gaps(made)] == [("2024-05-08", "lost", 4)]
    made.claims["s"].append(Claim(seq=5, status="complete", start="2024-05-09", end="2024-05-10"))
    assert shown(made) == "pPo"


def test_what_an_api_had_served_as_empty_before_is_noted() -> None:
    made = log([8, 9], [claim(None, "2024-05-10T06:00:00Z", seq=seq) for seq in (3, 6)])
    made.held["s"]["2024-05-09"] = Held(grown=[(6, 2)])
    stretches = Coverage(made, TODAY).stretches("s")
    assert [(one.last, one.status, one.reason, one.commit) for one in stretches[:2]] == [
        ("2024-05-08", "present", "", 6), ("2024-05-09", "present", "commit 3 had found the day empty", 6),
    ]  # fmt: skip


def test_a_snapshot_is_missing_on_the_days_on_which_nobody_has_taken_one() -> None:
    made = log([1, 2, 9], [], day_field="", bookmark_properties=(), mode="snapshot")
    made.times = [f"2024-05-{day:02d}T23:59:00.000Z" for day in (1, 3, 4, 8, 9)]
    made.same["s"] = {"2024-05-04": (3, "2024-05-02")}
    taken = [("01T10:00", 1, "complete"), ("02T23:50", 2, "complete"), ("04T10:00", 3, "complete")]
    taken += [("08T10:00", 4, "partial")]
    made.claims["s"] = [Claim(seq, status, end=f"2024-05-{end}:00Z") for end, seq, status in taken]
    assert shown(made) == "PP?P???fpo", "the run that went over midnight was one run; one proves nothing; one failed"
    made.streams["s"] = msgspec.structs.replace(made.streams["s"], timezone="Asia/Tokyo")
    made.claims["s"] = [Claim(seq=1, status="complete", end="2024-05-01T16:00:00Z")]
    assert shown(made).startswith("pP"), "it was the second already"
    made.streams["s"] = msgspec.structs.replace(made.streams["s"], mode="event", timezone="UTC")
    assert shown(made) == "PPPP", "a log of what happened has no gaps"


# Expected rows ------------------------------------------------------------------------------------------------------

LAST = date(2024, 5, 9)
HISTORY = [LAST - timedelta(days=back) for back in range(1, 71)]
READ = {"start": (LAST - timedelta(days=90)).isoformat(), "end": "2024-05-10"}


def dense(rows: Mapping[date, int], reads: Sequence[int] = (1,), **others: Mapping[date, int]) -> Coverage:
    made = log([], [])
    for name, held in {"s": rows, **others}.items():
        add(made, name, held, [{**READ, "seq": seq} for seq in reads])
    return Coverage(made, TODAY)


@pytest.mark.parametrize(
    ("a_day", "expected"),
    [(100, "empty_suspect"), (7, "empty_suspect"), (6, "empty"), (0, "empty")],
)
def test_an_empty_day_is_suspect_where_none_is_likely(a_day: int, expected: str) -> None:
    found = dense(dict.fromkeys(HISTORY, a_day) | {HISTORY[-1]: 1})
    assert found.statuses("s")["2024-05-09"] == expected
    assert [gap.last for gap in found.gaps("s")] == (["2024-05-09"] if expected in GAPS else [])


def test_a_weekday_is_compared_with_the_same_weekday() -> None:
    workdays = {day: 50 for day in HISTORY if day.weekday() != LAST.weekday()}
    assert dense(workdays).statuses("s")["2024-05-09"] == "empty"


def test_a_burst_is_no_rate() -> None:
    assert dense({HISTORY[6]: 10_000, HISTORY[-1]: 1}).statuses("s")["2024-05-09"] == "empty"


def test_one_day_is_no_rate_either() -> None:
    made = log([], [])
    add(made, "s", {LAST - timedelta(days=7): 100}, [{**READ, "start": "2024-05-01"}])
    assert Coverage(made, TODAY).statuses("s")["2024-05-09"] == "empty"


def test_days_that_nobody_has_read_do_not_count_as_empty() -> None:
    made = log([], [])
    some = {LAST - timedelta(days=back): 9 for back in (*range(1, 15), 70)}
    add(made, "s", some, [{**READ, "start": "2024-04-25"}])
    assert Coverage(made, TODAY).statuses("s")["2024-05-09"] == "empty_suspect"


@pytest.mark.parametrize(
    ("reads", "expected"),
    [((1, 2, 3), "empty"), ((1, 2), "empty_suspect"), ((1, 3, 50), "empty"), ((1, 1, 1), "empty_suspect")],
)
def test_three_reads_an_hour_apart_confirm_an_empty_day(reads: Sequence[int], expected: str) -> None:
    assert dense(dict.fromkeys(HISTORY, 100), reads).statuses("s")["2024-05-09"] == expected


def test_reads_in_quick_succession_confirm_nothing() -> None:
    found = dense(dict.fromkeys(HISTORY, 100), (1, 2, 3))
    found._log.times[1] = "2024-05-01T00:59:59.999Z"
    assert found.statuses("s")["2024-05-09"] == "empty_suspect"


def test_all_streams_empty_at_once_are_suspect() -> None:
    few, rare = dict.fromkeys(HISTORY, 2), {HISTORY[6]: 1, HISTORY[-1]: 1}
    assert dense(few).statuses("s")["2024-05-09"] == "empty"
    assert dense(few, rare=rare).statuses("s")["2024-05-09"] == "empty", "a stream that has rarely any tells nothing"
    together = dense(few, other=few, rare=rare)
    assert [together.statuses(name)["2024-05-09"] for name in ("s", "other", "rare")] == [
        "empty_suspect", "empty_suspect", "empty",
    ]  # fmt: skip
    assert dense(few, other=few | {LAST: 1}).statuses("s")["2024-05-09"] == "empty"
    assert dense(few, (1, 2, 3), other=few).statuses("s")["2024-05-09"] == "empty", "confirmed"


@pytest.mark.case("02-3.4")
def test_the_four_days_of_the_acceptance_line() -> None:
    """Answers of 500, a body that is not understood, an empty day of a dense stream, and one of a sparse stream."""
    rows = dict.fromkeys(HISTORY, 100) | dict.fromkeys([LAST - timedelta(days=2), LAST - timedelta(days=1)], 0)
    made = log([], [])
    day = [(LAST - timedelta(days=back)).isoformat() for back in (2, 1, 0, -1)]
    held = {when: count for when, count in rows.items() if count}
    claims: list[dict[str, Any]] = [
        {**READ, "end": day[0]},
        {"start": day[0], "end": day[1], "status": "partial", "reason": "status 500", "http": 500},
        {"start": day[1], "end": day[2], "status": "partial", "reason": "the body has no items", "http": 200},
        {"start": day[2], "end": day[3]},
    ]
    add(made, "s", held, claims)
    add(made, "sparse", {HISTORY[30]: 1}, [READ])
    found = Coverage(made, TODAY)
    assert [(gap.status, gap.cause) for gap in found.gaps("s")] == [
        ("failed", "transient"), ("failed", "data"), ("empty_suspect", ""),
    ]  # fmt: skip
    assert found.statuses("sparse")[day[2]] == "empty"
    made.claims["s"] += [Claim(seq, "complete", None, day[2], day[3]) for seq in (2, 3)]
    assert Coverage(made, TODAY).statuses("s")[day[2]] == "empty"


# Frontier and evidence ----------------------------------------------------------------------------------------------


def test_the_frontier_is_the_first_of_the_latest_proved_days() -> None:
    made = log([1, 5], [claim(None, "2024-05-03T00:00:00Z"), claim("2024-05-05", "2024-05-08")])
    assert shown(made) == "Pe??Pee??o"
    assert unbroken(Coverage(made, TODAY).statuses("s")) == ("2024-05-05", "2024-05-07")
    assert unbroken({}) is None
    assert unbroken({"2024-05-05": "partial"}) is None


def test_evidence_is_what_the_commit_holds_of_these_days() -> None:
    def given_up(start: str, until: str) -> dict[str, Any]:
        return {"request": "1f", "method": "GET", "url": f"/{start}", "reason": "x", "start": start, "until": until}

    failed = {"status": "partial", "evidence": {"given_up": [given_up("2024-05-03", "2024-05-05")]}}
    other = {"status": "partial", "evidence": {"given_up": [given_up("2024-06-03", "2024-06-05")]}}
    state = {"claims": {"s": [failed, other, {"status": "complete"}], "t": [failed]}}
    commit = Commit(
        FORMAT, 7, "data", "2024-05-08T00:00:00Z", "run-1", "", state=msgspec.Raw(msgspec.json.encode(state))
    )
    found = evidence(commit, Stretch("s", "2024-05-04", "2024-05-04", 1, "failed", "transient", "x", 7))
    assert (found.run, found.at, [one.url for one in found.requests]) == (
        "run-1",
        "2024-05-08T00:00:00Z",
        ["/2024-05-03"],
    )
    assert evidence(Commit(FORMAT, 8, "data", "", "r", ""), Stretch("s", "", "", 1, "failed", "", "", 8)).requests == []


# Laws ---------------------------------------------------------------------------------------------------------------

HOURS = st.integers(0, 9 * 24)
CLAIMS = st.lists(
    st.tuples(
        st.none() | HOURS,
        st.integers(24, 9 * 24),
        st.sampled_from(["complete", "complete", "partial", "skipped"]),
        st.integers(1, 6),
    ),
    max_size=6,
)
HELD = st.sets(st.integers(1, 9))


def at(hour: int | None) -> str | None:
    return None if hour is None else f"2024-05-{1 + hour // 24:02d}T{hour % 24:02d}:00:00Z"


def made_of(claims: Iterable[tuple[int | None, int, str, int]]) -> list[dict[str, Any]]:
    return [{"start": at(a), "end": at(b), "status": status, "seq": seq} for a, b, status, seq in claims]


@given(HELD, CLAIMS)
def test_statuses_and_gaps_tile_the_calendar_and_agree_with_a_count_by_the_hour(
    held: set[int], claims: list[tuple[int | None, int, str, int]]
) -> None:
    coverage = Coverage(log(held, made_of(claims)), TODAY)
    statuses, stretches = coverage.statuses("s"), coverage.stretches("s")
    days = [int(day[-2:]) for day in statuses]
    assert days == (list(range(days[0], 11)) if days else [])
    tiles = [(day, one) for one in stretches for day in range(int(one.first[-2:]), int(one.last[-2:]) + 1)]
    assert [day for day, _ in tiles] == days
    assert [one.status for _, one in tiles] == list(statuses.values())
    assert all(one.days == int(one.last[-2:]) - int(one.first[-2:]) + 1 for one in stretches)
    assert [one for one in stretches if one.status in GAPS] == coverage.gaps("s")
    read = {hour for a, b, status, _ in claims if status == "complete" for hour in range(a or 0, b)}
    for day in days[:-1]:
        whole = read.issuperset(range((day - 1) * 24, day * 24))
        status = statuses[f"2024-05-{day:02d}"]
        assert (status in PROVED) == whole
        assert (status in ("present", "partial")) == (day in held)


@given(HELD, CLAIMS, st.randoms(use_true_random=False), st.integers(0, 9 * 24))
def test_statuses_do_not_depend_on_the_order_of_claims_or_on_where_a_read_was_cut(
    held: set[int], claims: list[tuple[int | None, int, str, int]], chance: random.Random, cut: int
) -> None:
    other = []
    for a, b, status, seq in claims:
        pieces = [(a, cut, status, seq), (cut, b, status, seq)] if (a or 0) < cut < b else [(a, b, status, seq)]
        other += pieces
    chance.shuffle(other)
    known, again = (Coverage(log(held, made_of(one)), TODAY).stretches("s") for one in (claims, other))
    assert known == again


RANK = ("unknown", "out_of_scope", "unavailable", "failed", "partial", "empty_suspect", "empty", "present", "open")


@given(
    st.dictionaries(st.integers(0, 70), st.integers(0, 20)),
    st.lists(st.tuples(st.integers(0, 71), st.integers(0, 71), st.booleans(), st.integers(1, 9)), max_size=5),
    st.tuples(st.integers(0, 71), st.integers(0, 71)),
)
def test_a_complete_read_never_makes_a_day_worse(
    rows: dict[int, int], claims: list[tuple[int, int, bool, int]], more: tuple[int, int]
) -> None:
    first = TODAY - timedelta(days=71)

    def day(number: int) -> str:
        return (first + timedelta(days=number)).isoformat()

    told = [
        {"start": day(a), "end": day(b), "status": "complete" if whole else "partial", "seq": seq}
        for a, b, whole, seq in claims
    ]
    before, after = log([], []), log([], [])
    held = {first + timedelta(days=number): count for number, count in rows.items()}
    add(before, "s", held, told)
    add(after, "s", held, [*told, {"start": day(more[0]), "end": day(more[1]), "seq": 10}])
    known, now = (Coverage(made, TODAY).statuses("s") for made in (before, after))
    same = [{"unknown", "out_of_scope"}, {"unavailable", "failed"}]
    for one, status in known.items():
        assert RANK.index(now[one]) >= RANK.index(status) or {now[one], status} in same
