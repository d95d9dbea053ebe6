"""``channels``, ``start``, ``stop``, ``reload``, ``rename-destination``, ``ask``: the channels of a running engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.client import Client
from engine.cli.exits import Exit
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import complain, fail, left, local_time, print_facts, print_json, print_table

Destination = Annotated[
    str, typer.Argument(help="A channel and one of its destinations.", metavar="CHANNEL/DESTINATION")
]
Channel = Annotated[str, typer.Argument(help="Name of the channel.", show_default=False)]

#: What a reload says of channels that do not run as their files say.
NOT_AS_WRITTEN = ("kept", "refused", "broken", "failed")
#: Numbers of a destination that `channels` shows when they are not 0.
COUNTS = ("queued", "sending", "held", "parked", "unknown")


def channels(site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show what runs: each channel with its state, source, destinations and what waits there.

    [dim]Example:[/dim] hl7engine channels
    """
    answer = Client(data_folder(site, data)).get("channels")
    found = answer["channels"]
    if answer.get("store", "ok") != "ok":
        complain(f"the disk takes nothing ({answer['store']}): senders are refused until it does")
    if answer.get("disk", {}).get("state") == "low":
        complain(f"the disk is getting full: {left(answer['disk'])}")
    if as_json:
        print_json(found)
        return
    print_table(("channel", "state", "source", "received", "destination", "address", "waiting", "note"), rows(found))


def start(channel: Channel, site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Start a channel that was stopped, or that failed.

    [dim]Example:[/dim] hl7engine start ris-siu-router
    """
    show(Client(data_folder(site, data)).post("channels", channel, "start")["channel"], as_json, wanted="running")


def stop(channel: Channel, site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Stop a channel: it takes nothing in and sends nothing until it is started again. Nothing is lost.

    [dim]Example:[/dim] hl7engine stop ris-siu-router
    """
    show(Client(data_folder(site, data)).post("channels", channel, "stop")["channel"], as_json, wanted="stopped")


def reload(
    channels: Annotated[list[str] | None, typer.Argument(help="Names of channels.", show_default="all")] = None,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Read the site's files again and bring the channels to what they say; what has not changed is not touched.

    A file that is not valid, or that would leave messages behind, leaves its channel running as it was. Ends with 1
    when a channel does not run as its file says.

    [dim]Examples:[/dim]

    hl7engine reload

    hl7engine reload ris-siu-router
    """
    done = Client(data_folder(site, data)).post("reload", body={"channels": channels or []})
    if as_json:
        print_json(done)
    else:
        lines = [(channel["name"], channel["what"], "\n".join(channel["problems"])) for channel in done["channels"]]
        print_table(("channel", "what", "why"), lines)
        for note in done["notes"]:
            typer.echo(note)
    left = [channel["name"] for channel in done["channels"] if channel["what"] in NOT_AS_WRITTEN]
    if left:
        fail(f"not as their files say: {', '.join(left)}", Exit.NEGATIVE)


def pause(destination: Destination, site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Send nothing to a destination until it is resumed, across restarts too. What waits, and what comes, waits.

    [dim]Example:[/dim] hl7engine pause ris-siu-router/epic
    """
    steer("pause", destination, Client(data_folder(site, data)), as_json)


def resume(destination: Destination, site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Go on sending to a destination that was paused.

    [dim]Example:[/dim] hl7engine resume ris-siu-router/epic
    """
    steer("resume", destination, Client(data_folder(site, data)), as_json)


def steer(verb: str, place: str, client: Client, as_json: bool) -> None:
    """Pause or resume CHANNEL/DESTINATION and show what waits there."""
    channel, slash, name = place.partition("/")
    if not (channel and slash and name) or "/" in name:
        raise typer.BadParameter("write it like ris-siu-router/epic: a channel and one of its destinations")
    found = client.post("channels", channel, "destinations", name, verb)["channel"]
    state = next(item for item in found["destinations"] if item["name"] == name)
    if as_json:
        print_json(state)
        return
    since = local_time(state["paused_since"])
    print_facts({"destination": place, "paused": f"since {since}" if since else "no", "queued": state["queued"]})


def rename_destination(
    channel: Channel,
    old: Annotated[str, typer.Argument(help="The name that something waits for.", show_default=False)],
    new: Annotated[str, typer.Argument(help="Its name in the file as it is now.", show_default=False)],
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give what waits for a destination to its new name, in its order. Write the new name into the file first.

    [dim]Example:[/dim] hl7engine rename-destination ris-siu-router epic epic-north
    """
    done = Client(data_folder(site, data)).post("channels", channel, "rename", body={"from": old, "to": new})
    print_json(done) if as_json else typer.echo(f"{done['moved']} moved from {old} to {new}")


def ask(
    channel: Channel,
    request: Annotated[str, typer.Argument(help="The request, a JSON object; - reads it from stdin.", metavar="JSON")],
    correlation_id: Annotated[str | None, typer.Option(help="Use this id instead of a new one.")] = None,
    site: Site = Path(),
    data: Data = None,
) -> None:
    """Send a request through a request/response channel and print its reply.

    Ends with 0 when the reply's status is below 400, with 1 otherwise.

    [dim]Examples:[/dim]

    hl7engine ask radscheduler-locations '{"modality": "CR"}'

    hl7engine ask radscheduler-cancel '{"orderId": "ORDER123"}'
    """
    headers = {} if correlation_id is None else {"X-Correlation-ID": correlation_id}
    reply = Client(data_folder(site, data)).post("ask", channel, body=json_object(request), headers=headers)
    print_json(reply)
    if reply["status"] >= 400:
        raise typer.Exit(Exit.NEGATIVE)


def json_object(text: str) -> dict[str, Any]:
    """The JSON object of an argument or of stdin."""
    try:
        value = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise typer.BadParameter('this is no JSON; quote it like \'{"modality": "CR"}\'') from error
    if not isinstance(value, dict):
        raise typer.BadParameter('this is no JSON object; write it like \'{"modality": "CR"}\'')
    return value


def show(channel: dict[str, Any], as_json: bool, wanted: str) -> None:
    """What a channel is after it was started or stopped."""
    if as_json:
        print_json(channel)
    else:
        print_facts({"channel": channel["name"], "state": channel["state"], "source": channel["source"]})
    if channel["state"] != wanted:
        fail(f"{channel['name']} is {channel['state']}: {why(channel)}", Exit.NEGATIVE)


def why(channel: dict[str, Any]) -> str:
    """Why a channel does not run."""
    return channel.get("error") or "; ".join(channel.get("problems", ())) or ""


def rows(channels: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A line per destination; the channel's own cells stand on its first."""
    lines: list[tuple[Any, ...]] = []
    for channel in channels:
        own = (channel["name"], channel["state"], channel["source"], channel["received_since_start"])
        note = why(channel) or (f"{channel['failed']} failed" if channel.get("failed") else "")
        for number, destination in enumerate(channel["destinations"] or [{}]):
            waiting = " ".join(f"{destination[name]} {name}" for name in COUNTS if destination.get(name))
            refused = destination.get("outcomes_refused_since_start")
            parts = (
                note if number == 0 else "",
                "paused" if destination.get("paused_since") else "",
                f"{refused} outcomes refused" if refused else "",
                destination.get("last_error", ""),
            )
            notes = " · ".join(filter(None, parts))
            start = own if number == 0 else ("", "", "", "")
            lines.append((*start, destination.get("name", ""), destination.get("address", ""), waiting, notes))
    return lines
