"""A deterministic simulation of the engine: the real code, with its clock, network, disk and power in one seed's hand.

    world.py      virtual time, everything that happens, the trace
    loop.py       the event loop the engine runs on
    network.py    connections that split, delay, reset and fall silent
    disk.py       files that forget, tear, fill up and fail; power that goes
    sqlite.py     a real SQLite on that disk
    process.py    the engine's process: boot, crash, stop
    writing.py    the process that writes for it, and dies when it likes
    senders.py    systems that send, and repeat what was not acknowledged
    partners.py   systems that receive, in every mood
    workload.py   what a seed chooses
    ledger.py     what was heard and taken, seen from outside
    checks.py     what must be true of it

``python -m simulation --seeds 1000`` runs seeds; a failing one is printed with the command that replays it.
"""
