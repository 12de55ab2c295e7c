"""`python -m tap_sample`: the sample API on its own, for people, for other programs and for tests."""

from __future__ import annotations

import signal
import sys

import click

from tap_sample.endpoints import PAGE_SIZE_CAP
from tap_sample.faults import KINDS, Faults
from tap_sample.server import TOKEN, Quota, SampleServer


@click.command(context_settings={"max_content_width": 120})
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; any free one by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--token", default=TOKEN, show_default=True, help="The bearer token that requests have to carry.")
@click.option("--rate", default="2000/10", show_default=True, metavar="N/SECONDS", help="Requests allowed in a window.")
@click.option("--page-size-cap", type=click.IntRange(1), default=PAGE_SIZE_CAP, show_default=True, help="Largest page.")
@click.option("--faults", default="0", metavar="RATE[:SEED]", help="Share of requests that go wrong, e.g. 0.1:7.")
@click.option("--fault-kinds", default="", metavar="A,B", help=f"Only these: {', '.join(KINDS)}.")
@click.option("--slow-seconds", type=click.FloatRange(0, 60), default=2.0, show_default=True, help="Slow body's time.")
def main(
    *,
    port: int,
    host: str,
    token: str,
    rate: str,
    page_size_cap: int,
    faults: str,
    fault_kinds: str,
    slow_seconds: float,
) -> None:
    """Serve the sample API: weather, planes, airports and airlines around the flights out of New York City in 2013.

    The base URL is the first line on stdout. Ctrl-C ends it (exit status 130).

    \b
    GET /v1/weather   26,115 rows   limit, cursor, since, until
    GET /v1/planes     3,322 rows   limit, offset; the total is declared
    GET /v1/airports   1,458 rows   per_page, page; the next page is in the Link header
    GET /v1/airlines      16 rows   a single page
    GET /v1/me                      whose token it is
    """  # noqa: D301 - click marks a table with the control character itself
    try:
        quota, chosen = Quota.parse(rate), Faults.parse(faults, fault_kinds, slow_seconds)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        server = SampleServer(
            host=host, port=port, token=token, quota=quota, page_size_cap=page_size_cap, faults=chosen
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    click.echo(server.base_url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main(prog_name="python -m tap_sample")
