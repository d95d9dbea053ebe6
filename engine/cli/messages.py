"""``messages``, ``message``, ``trace``, ``resend`` and ``discard``: what went through a running engine."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import local_time, print_facts, print_json, print_table, printable

AGO = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

MessageId = Annotated[int, typer.Argument(help="Id of the message.", metavar="ID", show_default=False)]
DeliveryId = Annotated[int | None, typer.Option("--delivery", help="Id of one delivery.", metavar="ID")]
Moment = Annotated[str | None, typer.Option(help="A time (2026-11-20T09:30) or how long ago (15m, 2h, 1d).")]


def messages(
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    state: Annotated[str | None, typer.Option(help="received, routed, filtered, failed or refused.")] = None,
    delivery_state: Annotated[
        str | None,
        typer.Option(help="With a delivery that is queued, sending, delivered, unknown, held, parked or discarded."),
    ] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Of this correlation id.")] = None,
    control_id: Annotated[str | None, typer.Option(help="MSH-10, as it came in or went out.")] = None,
    patient: Annotated[
        str | None, typer.Option(help="Patient id, as the channel reads it (PID-3.1); - reads it from stdin.")
    ] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="Older than this message id (the next page).")] = None,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Find messages, newest first.

    [dim]Examples:[/dim]

    hl7engine messages --channel ris-siu-router --since 15m

    hl7engine messages --delivery-state held
    """
    from engine.delivery import DeliveryState, MessageState

    known("--state", state, MessageState)
    known("--delivery-state", delivery_state, DeliveryState)
    wanted = {
        "channel": channel,
        "state": state,
        "delivery_state": delivery_state,
        "correlation_id": correlation_id,
        "control_id": control_id,
        "since": moment(since),
        "until": moment(until),
        "limit": limit,
        "before": before,
    }
    client = Client(data_folder(site, data))
    if patient is None:
        found = client.get("messages", **wanted)
    else:  # never in an address
        wanted["patient"] = sys.stdin.readline().strip() if patient == "-" else patient
        found = client.post(
            "messages", "find", body={name: value for name, value in wanted.items() if value is not None}
        )
    if as_json:
        print_json(found)
        return
    print_table(("id", "time", "channel", "type", "MSH-10", "state", "ack", "deliveries"), map(line, found["messages"]))
    if found["next"]:
        typer.echo(f"There are more: --before {found['next']}")


def message(
    message_id: MessageId,
    bodies: Annotated[bool, typer.Option("--bodies", help="Show the content as well (the view is logged).")] = False,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show one message: what it is, its deliveries, and every hop with its time.

    [dim]Example:[/dim] hl7engine message 48291 --bodies
    """
    found = Client(data_folder(site, data)).get("messages", str(message_id), bodies=1 if bodies else None)
    if as_json:
        print_json(found)
        return
    facts = {name: value for name, value in found["message"].items() if name not in ("deliveries", "body")}
    facts |= {name: local_time(facts[name]) for name in ("received_at", "routed_at", "bodies_removed_at")}
    facts["batch"] = ", ".join(f"{name} {value}" for name, value in facts.get("batch", {}).items())
    print_facts(facts)
    print_table(
        ("delivery", "destination", "state", "attempts", "MSH-10", "next attempt", "cause"),
        map(delivery_line, found["deliveries"]),
    )
    print_hops(found["hops"])
    if bodies:
        print_body("received", found["message"]["body"])
        for delivery in found["deliveries"]:
            print_body(f"delivery {delivery['id']} to {delivery['destination']}", delivery["body"])
            print_body(f"answer of {delivery['destination']}", delivery["answer"])


def trace(
    correlation_id: Annotated[str, typer.Argument(help="The correlation id (X-Correlation-ID).", show_default=False)],
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show every hop that one request or message caused, in order of time.

    [dim]Example:[/dim] hl7engine trace 5f0c9a2e-7d0b-4c55-9a55-0d9f6a1c2b3d
    """
    found = Client(data_folder(site, data)).get("trace", correlation_id)
    if as_json:
        print_json(found)
    else:
        print_hops(found["hops"])


def resend(
    message_id: Annotated[int | None, typer.Argument(help="Id of the message.", metavar="ID")] = None,
    delivery: DeliveryId = None,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send again: a failed message is routed again; parked, held, unknown and discarded deliveries go once more.

    The bytes and their MSH-10 stay the same.

    [dim]Examples:[/dim]

    hl7engine resend 48291

    hl7engine resend --delivery 48292
    """
    if (message_id is None) == (delivery is None):
        raise typer.BadParameter("name either the ID of a message or --delivery ID")
    client = Client(data_folder(site, data))
    if delivery is None:
        done = client.post("messages", str(message_id), "resend")
        print_json(done) if as_json else typer.echo(done["done"])
    else:
        show_delivery(client.post("deliveries", str(delivery), "resend")["delivery"], as_json)


def discard(
    delivery: DeliveryId = None,
    channel: Annotated[str | None, typer.Option(help="Everything that waits in this channel …")] = None,
    destination: Annotated[str | None, typer.Option(help="… for this destination.")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="… in this state: queued, held, parked, unknown, received or failed.")
    ] = None,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give up one delivery, or everything that waits for a destination, so that what waits behind it goes on.

    A channel without --destination: only one whose file is gone; its unrouted and failed messages are given up as well.
    A delivery that was given up can still be sent again while its destination exists.

    [dim]Examples:[/dim]

    hl7engine discard --delivery 48292

    hl7engine discard --channel ris-siu-router --destination cerner --state parked
    """
    if (delivery is None) == (channel is None) or (channel is None and (destination or state)):
        raise typer.BadParameter("name either --delivery ID, or --channel NAME and --destination NAME")
    client = Client(data_folder(site, data))
    if channel is None:
        show_delivery(client.post("deliveries", str(delivery), "discard")["delivery"], as_json)
        return
    done = client.post("channels", channel, "discard", body={"destination": destination, "states": state or []})
    print_json(done) if as_json else typer.echo(f"{done['discarded']} discarded")


def moment(text: str | None) -> str | None:
    """``15m`` as a time; a time as it stands. Ends the command for what is neither."""
    if text is None:
        return text
    if (ago := AGO.fullmatch(text)) is None:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is no time: write 2027-01-31T09:30, or how long ago: 15m, 2h, 1d"
            ) from None
        return text
    return (datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})).isoformat()


def known(option: str, word: str | None, words: Iterable[str]) -> None:
    """End the command for a word that is none of these."""
    allowed = [str(each) for each in words]
    if word is None or word in allowed:
        return
    near = get_close_matches(word, allowed, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise typer.BadParameter(f"{option} is one of {', '.join(allowed)}{meant}")


def line(row: dict[str, Any]) -> tuple[Any, ...]:
    deliveries = ", ".join(f"{delivery['destination']} {delivery['state']}" for delivery in row["deliveries"])
    state = f"{row['state']} ({row['cause']})" if row["cause"] else row["state"]
    kind, control_id = row["type"], row["control_id"]
    return row["id"], local_time(row["received_at"]), row["channel"], kind, control_id, state, row["ack"], deliveries


def delivery_line(row: dict[str, Any]) -> tuple[Any, ...]:
    next_at = local_time(row["next_at"]) if row["state"] == "queued" else ""
    cause = " · ".join(filter(None, (row["cause"], "may be duplicated" if row["may_be_duplicated"] else "")))
    return row["id"], row["destination"], row["state"], row["attempts"], row["control_id"], next_at, cause


def print_hops(hops: list[dict[str, Any]]) -> None:
    print_table(("time", "ms", "channel", "what", "with", "MSH-10", "codes", "cause", "message"), map(hop_line, hops))


def hop_line(hop: dict[str, Any]) -> tuple[Any, ...]:
    partner = hop.get("destination") or " ".join(filter(None, (hop.get("source"), hop.get("peer"))))
    what = f"{hop['what']} (attempt {hop['attempts']})" if hop.get("attempts", 1) > 1 else hop["what"]
    control_id = hop.get("control_id_in") or hop.get("control_id_out", "")
    codes = " ".join(hop.get("codes", {}).values())
    time, cause = local_time(hop["time"]), hop.get("cause", "")
    return time, f"{hop['ms']:.1f}", hop["channel"], what, partner, control_id, codes, cause, hop["message_id"]


def print_body(title: str, body: str) -> None:
    """Content, a segment per line."""
    if body:
        lines = re.split(r"\r\n|\r|\n", body.rstrip("\r\n"))
        typer.echo(f"\n{title}:\n" + "\n".join(f"  {printable(line)}" for line in lines))


def show_delivery(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        names = ("delivery", "destination", "state", "attempts", "MSH-10", "next_at", "cause")
        print_facts(dict(zip(names, delivery_line(row), strict=True)))
