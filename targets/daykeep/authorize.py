"""`daykeep authorize`: a person logs a tap in, once; the tap itself does it, and keeps what it gets for its runs."""

from __future__ import annotations

import subprocess

import click

from daykeep.run import executable


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("tap")
@click.argument("tap_options", nargs=-1, type=click.UNPROCESSED, metavar="[--config FILE …]")
def authorize(tap: str, tap_options: tuple[str, ...]) -> int:
    """Log in to the API of TAP, for taps whose declaration asks for a person's consent.

    A page opens in the browser, or a code is shown that is entered on a page in any browser. TAP is a name or a path;
    all that follows is given to it: the settings must be those of its runs. The tokens are stored for these runs, for
    your user alone, and renewed by them.

    Exit status: 0 logged in, 1 refused or not done in time, 2 wrong usage or settings, 130 interrupted.
    """
    status = subprocess.run([executable(tap), *tap_options, "--authorize"], check=False).returncode
    return status if status >= 0 else 128 - status
