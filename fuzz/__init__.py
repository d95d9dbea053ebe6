"""Coverage-guided fuzzing of what reads bytes or text that somebody else wrote. ``docs/fuzzing.md`` is its page.

A target is one file of ``targets/``: ``check(data)`` states properties and fails when one does not hold, ``seeds()``
gives the inputs that the search begins with. ``findings/TARGET/`` keeps every input that a property once did not hold
for; the test suite replays them, with or without a fuzzer.

    python -m fuzz --minutes 60              all targets, an equal share of the time each
    python -m fuzz mllp path --runs 20000    two of them, a number of inputs each
"""
