"""Writing in a process of its own while much is to be written: the engine's interpreter has that time for the rest.

carried.py     operations as plain values, on their way to that process
writing.py     the engine's end: starts it, gives it batches, notices when it dies
wire.py        what they say to each other
files.py       whether a process would be of the same files as the engine
bond.py        it ends with the engine, also where it is stopped
state.py       how it is, for people
__main__.py    the process itself
"""
