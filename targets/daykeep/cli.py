"""`daykeep`: its verbs, one file each, and how each way of ending becomes an exit status and one line."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from importlib.metadata import version

import click

from daykeep.terminal import say
from target_archive.errors import ArchiveError

_VERBS = (
    "run",
    "authorize",
    "status",
    "show",
    "revisions",
    "diff",
    "pin",
    "gaps",
    "schema",
    "dead-letters",
    "verify",
    "repair",
    "seal",
    "export",
    "completion",
)


class Verbs(click.Group):
    """Loads a verb when it is asked for: `show` need not wait for what draws `status`.

    A verb is a command of its module's name; what it returns is the exit status.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _VERBS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"daykeep.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> None:
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BrokenPipeError:
            # the reader, `head` say, has seen enough; the interpreter must not try to flush the rest when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except (KeyboardInterrupt, click.Abort):
            status = 130
        except Exception as error:
            if os.environ.get("DAYKEEP_DEBUG"):
                raise
            known = isinstance(error, ArchiveError)
            problem = (
                str(error) if known else f"unexpected {type(error).__name__}: {error} (DAYKEEP_DEBUG=1 shows where)"
            )
            say(problem)
            status = error.exit_status if isinstance(error, ArchiveError) else 1
        ctx.exit(status or 0)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("daykeep"), prog_name="daykeep")
def main() -> None:
    """Run Singer taps into an archive, and see what it holds.

    Exit status: 0 well, 1 an error, 2 wrong usage or settings, 3 a part of the streams failed, 4 the shape of the
    data has changed beyond policy, 11 the archive is being written by another process, 75 the API asked to come back
    later, 130 or 143 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without these characters is no reason to fail
