"""``hl7engine pilot`` in parts: where it runs, which faults it puts up, what it does, how it judges, how it tells.

``ground.py`` finds or starts an engine with simulators and refuses any that reaches a real partner; ``faults.py`` deals
and injects faults; ``bookings.py`` lets RadScheduler book; ``judge.py`` (pure) says what became of each booking;
``report.py`` prints it.
"""
