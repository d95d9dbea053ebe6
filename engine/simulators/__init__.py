"""The other side of every shipped channel: strict partners with state, and faults on demand.

`Ris` is the radiology system, `Emr` an EMR in one profile, `Webhook` RadScheduler's order webhook, `Control` the HTTP
port that shows their state and makes them fail; `Simulators` starts all of them for a site, `run` until told to stop.
They are written from the partners' documents and share nothing with the engine's own HL7 code: `wire.py` reads and
writes, `answers.py` acknowledges and refuses, `server.py` listens, `outbox.py` sends. Use them in tests as they are:
every class takes port 0, a clock, and starts and stops on its own.
"""

from engine.simulators.app import Simulators, run
from engine.simulators.control import Control
from engine.simulators.dialect import Dialect
from engine.simulators.emr import Emr
from engine.simulators.ris import Ris
from engine.simulators.webhook import Webhook

__all__ = ["Control", "Dialect", "Emr", "Ris", "Simulators", "Webhook", "run"]
