"""How the process that writes is, for whoever asks how the engine is."""

from __future__ import annotations

from enum import StrEnum

from engine.values import dataclass


class ProcessState(StrEnum):
    """What there is of it."""

    OFF = "off"  # this store has none, whatever is to be written
    RESTING = "resting"  # it comes when much is to be written
    STARTING = "starting"  # it is there, or nearly, and has taken nothing yet
    RUNNING = "running"  # it writes whatever it can
    SILENT = "silent"  # it has not answered for seconds: it was stopped, or waits for the disk
    ENDING = "ending"  # it does what it was asked last; or is gone, and what it has done of that is being found out
    DIED = "died"  # or could not be started: another one is tried half a minute later at the earliest
    OUTDATED = "outdated"  # it would be of other files than the engine: none before the engine is started again


@dataclass(frozen=True, slots=True)
class ProcessNow:
    """The process that writes at one moment."""

    state: ProcessState
    #: None where there is no process.
    pid: int | None = None


OFF = ProcessNow(ProcessState.OFF)
