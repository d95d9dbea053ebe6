"""The site that is killed: every way of acknowledging, ordering and delivering beside each other.

| channel | ack | order | destinations |
|---|---|---|---|
| notes | received | by patient | steady, cautious (holds what is unanswered), dead, refusing, hop (into second) |
| second | (from notes) | received | second |
| orders | routed, remembers in a cache | received | webhook (REST), slow |
| results | delivered | none | results |
| moving | received | by patient | mover, under one of two names |
| later | delivered, on a connection of its own (acks) | by patient | late |
| again | delivered; its messages come several times | by patient | again |
| book | a reply, idempotency keys | | ris (an unanswered booking is unknown) |
| query | a reply | | ris |

Finished messages are kept for a few seconds and their contents for less, so that they are removed while others are
under way; those of `again` for as long as a repetition of them may come.
"""

import random
import socket
from pathlib import Path

PARTNERS = (
    *("steady", "cautious", "dead", "refusing", "second", "webhook", "slow", "results", "ris"),
    *("mover", "late", "acks", "again"),
)
SOURCES = ("notes", "orders", "results", "moving", "later", "again")
#: destination → whether messages of one key come in order
ORDERED = {name: name not in ("results", "acks") for name in PARTNERS}
#: The two names of the destination of ``moving``.
MOVER = ("mover-east", "mover-west")
API_KEY = "key-of-the-crash-harness"
ADMIN_KEY = "admin-key-of-the-crash-harness"

SITE = """
rest: {{host: {host}, port: {rest}}}
admin: {{host: {host}, port: {admin}}}
api_keys:
  booker: {{key: "${{BOOKER_KEY}}", channels: [book, query]}}
secrets: [BOOKER_KEY]
retention: {{delivered: 4s, filtered: 2s, failed: 2s, refused: 2s, bodies: {{delivered: 2s}}}}
audit: {{keep: 1d}}
"""

NOTES = """
name: notes
source: {{mllp: {{host: {host}, port: {notes_in}}}}}
ack: received
order: {{key: PID-3.1}}
transform:
  - lookup: {{table: wards, key: PV1-3.1, into: ward}}
destinations:
  - name: steady
    where: {{PV1-2: [S, A]}}
    to: {{mllp: {{host: {host}, port: {steady}, timeout: 1s}}}}
    connections: 3
    retry: {{backoff: [100ms]}}
  - name: cautious
    where: {{PV1-2: [C, A]}}
    to: {{mllp: {{host: {host}, port: {cautious}, timeout: 1s}}}}
    connections: 2
    retry: {{backoff: [100ms]}}
    on_unanswered: hold
  - name: dead
    where: {{PV1-2: [D, A]}}
    to: {{mllp: {{host: {host}, port: {dead}, timeout: 1s}}}}
    retry: {{backoff: [100ms]}}
  - name: refusing
    where: {{PV1-2: R}}
    to: {{mllp: {{host: {host}, port: {refusing}, timeout: 1s}}}}
    retry: {{backoff: [100ms]}}
  - name: hop
    where: {{PV1-2: [H, A]}}
    to: {{channel: second}}
    retry: {{backoff: [100ms]}}
"""

SECOND = """
name: second
source: {{channel: {{}}}}
order: {{key: PID-3.1}}
destinations:
  - name: second
    to: {{mllp: {{host: {host}, port: {second}, timeout: 1s}}}}
    retry: {{backoff: [100ms]}}
"""

ORDERS = """
name: orders
source: {{mllp: {{host: {host}, port: {orders_in}}}}}
ack: routed
transform:
  - remember:
      cache: orders
      key: ORC-2.1
      expire: 30d
      value: {{mrn: {{from: PID-3.1}}}}
      forget: {{ORC-1: CA}}
destinations:
  - name: webhook
    transform:
      - build: {{json: {{controlId: {{from: MSH-10}}, key: {{from: PID-3.1}}}}}}
    to: {{rest: {{method: POST, url: "http://{host}:{webhook}/orders", timeout: 2s}}}}
    retry: {{backoff: [100ms]}}
  - name: slow
    to: {{mllp: {{host: {host}, port: {slow}, timeout: 2s}}}}
    retry: {{backoff: [100ms]}}
"""

RESULTS = """
name: results
source: {{mllp: {{host: {host}, port: {results_in}}}}}
ack: delivered
ack_deadline: 3s
order: none
destinations:
  - name: results
    to: {{mllp: {{host: {host}, port: {results}, timeout: 1s}}}}
    connections: 4
    retry: {{backoff: [100ms]}}
"""

MOVING = """
name: moving
source: {{mllp: {{host: {host}, port: {moving_in}}}}}
order: {{key: PID-3.1}}
destinations:
  - name: {name}
    to: {{mllp: {{host: {host}, port: {mover}, timeout: 1s}}}}
    connections: 2
    retry: {{backoff: [100ms]}}
"""

LATER = """
name: later
source: {{mllp: {{host: {host}, port: {later_in}}}}}
ack:
  when: delivered
  to: {{mllp: {{host: {host}, port: {acks}, timeout: 1s}}}}
  retry: {{backoff: [100ms]}}
ack_deadline: 3s
order: {{key: PID-3.1}}
destinations:
  - name: late
    to: {{mllp: {{host: {host}, port: {late}, timeout: 1s}}}}
    connections: 2
    retry: {{backoff: [100ms]}}
"""

AGAIN = """
name: again
source: {{mllp: {{host: {host}, port: {again_in}}}}}
ack: delivered
ack_deadline: 2s
order: {{key: PID-3.1}}
duplicates: {{window: 30d}}
retention: {{delivered: 30d, filtered: 30d, bodies: 30d}}
destinations:
  - name: again
    to: {{mllp: {{host: {host}, port: {again}, timeout: 1s}}}}
    connections: 2
    retry: {{backoff: [100ms]}}
"""

_REQUEST = """
  - build:
      message: {kind}
      version: "2.5"
      fields: {{{{MSH-3: CRASH, {fields}}}}}
destinations:
  - name: ris
    to: {{{{mllp: {{{{host: {{host}}, port: {{ris}}, timeout: 1s}}}}}}}}
    connections: 4
    {failure}
reply:
  from: ris
  status: {status}
  transform:
    - build: {{{{json: {{{{confirmation: {{{{from: MSA-3}}}}}}}}}}}}
breaker: {{{{failures: 100, probe: 1s}}}}
"""

BOOK = """
name: book
source: {{rest: {{method: POST, path: /book, timeout: 5s}}}}
idempotency:
  key: [$header.Idempotency-Key]
  keep: {{at_least: 30d}}
transform:""" + _REQUEST.format(
    kind="ORM^O01", fields="ORC-1: NW, ORC-2: $body.number", failure="on_unanswered: unknown", status=201
)

QUERY = """
name: query
source: {{rest: {{method: GET, path: /query, timeout: 5s, query: {{number: {{required: true}}}}}}}}
transform:""" + _REQUEST.format(
    kind="QRY^Q01",
    fields="QRD-1: {{from: $now, format: timestamp}}, QRD-2: D, QRD-3: I, QRD-4: $query.number, "
    "QRD-7: 1^RD, QRD-8: P1, QRD-9: DEM, QRD-10: RAD",
    failure="retry: {{attempts: 2, on: [unavailable]}}",
    status=200,
)


def partner_of(destination: str) -> str:
    """The partner behind a destination, whatever it is called at the moment."""
    return "mover" if destination in MOVER else destination


def own_host() -> str:
    """An address of this machine that nobody else uses, where it has more than one.

    While an engine is dead its ports are free, and whoever looks for a free one beside it may take them.
    """
    host = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:  # not Linux, where all of 127.0.0.0/8 is the loopback
            return "127.0.0.1"
    return host


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on, outside the range of outgoing connections where there is a choice."""
    found: list[socket.socket] = []
    try:
        for port in range(21000 + random.randrange(6000), 32000):
            probe = socket.socket()
            try:
                probe.bind((host, port))
            except OSError:
                probe.close()
                continue
            found.append(probe)
            if len(found) == count:
                break
        return [probe.getsockname()[1] for probe in found]
    finally:
        for probe in found:
            probe.close()


class Site:
    """The files, the ports and the data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder / "site", folder / "data"
        names = ("rest", "admin", *(f"{name}_in" for name in SOURCES), *PARTNERS)
        self.host = own_host()
        self.ports = dict(zip(names, free_ports(self.host, len(names)), strict=True))
        for name in ("channels", "tables"):
            (self.folder / name).mkdir(parents=True)
        channels = {
            "notes": NOTES,
            "second": SECOND,
            "orders": ORDERS,
            "results": RESULTS,
            "later": LATER,
            "again": AGAIN,
            "book": BOOK,
            "query": QUERY,
        }
        for name, text in channels.items():
            (self.folder / "channels" / f"{name}.yaml").write_text(text.format(host=self.host, **self.ports))
        self.rename_mover(MOVER[0])
        (self.folder / "site.yaml").write_text(SITE.format(host=self.host, **self.ports))
        (self.folder / "tables" / "wards.csv").write_text("id,name,floor\nW1,Ward 1,3\n")

    def address(self, name: str) -> tuple[str, int]:
        """Host and port of a listener."""
        return self.host, self.ports[name]

    def rename_mover(self, name: str) -> None:
        """Give the destination of ``moving`` this name in its file, whole or not at all."""
        self.mover = name
        draft = self.folder / "moving.draft"
        draft.write_text(MOVING.format(name=name, host=self.host, **self.ports))
        draft.replace(self.folder / "channels" / "moving.yaml")

    def environment(self) -> dict[str, str]:
        """What the engine is told besides."""
        return {"BOOKER_KEY": API_KEY, "HL7ENGINE_ADMIN_KEY": ADMIN_KEY}
