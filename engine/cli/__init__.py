"""The command line: ``hl7engine``.

One file per command group; each imports what it needs of the engine inside its commands, so that ``--help`` and the
commands that talk to a running engine start fast. Those use its local socket (``client.py``) and nothing else.
``run.py`` and ``serve.py`` are the engine's process; exit codes are in ``exits.py``.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from engine.cli import (
    audit,
    backup,
    channels,
    check,
    init,
    keys,
    messages,
    pilot,
    prune,
    run,
    send,
    simulate,
    status,
    validate,
)
from engine.cli.client import ApiError
from engine.cli.exits import EPILOG, Exit
from engine.cli.output import complain
from engine.errors import DataFolderInUse, HL7EngineError, NotRunning

app = typer.Typer(
    name="hl7engine",
    help="An HL7 v2 integration engine: channels in YAML, nothing acknowledged is ever lost.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A traceback's local variables may hold messages.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "Run": (init.init, run.run, check.check, validate.validate, simulate.simulate, pilot.pilot),
    "See": (
        status.status,
        channels.channels,
        messages.messages,
        messages.message,
        messages.trace,
        audit.audit,
        keys.keys,
    ),
    "Act": (
        *(channels.start, channels.stop, channels.pause, channels.resume),
        *(
            channels.reload,
            channels.rename_destination,
            keys.rotate_key,
            prune.prune,
            backup.backup,
            backup.restore,
            backup.verify,
        ),
        *(messages.resend, messages.discard, channels.ask, send.send),
    ),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel, epilog=EPILOG)(command)


def show_version(wanted: bool) -> None:
    """``--version``"""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hl7engine {version('hl7engine')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """The console script."""
    try:
        app(prog_name="hl7engine")
    except NotRunning as error:
        complain(str(error))
        sys.exit(Exit.NOT_RUNNING)
    except DataFolderInUse as error:
        complain(str(error))
        sys.exit(Exit.IN_USE)
    except ApiError as error:
        complain(str(error))
        sys.exit(Exit.USAGE if error.status == 400 else Exit.NEGATIVE)
    except HL7EngineError as error:
        complain(str(error))
        sys.exit(Exit.NEGATIVE)
