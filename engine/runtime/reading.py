"""What is read of each message as it was received, before any step changes it: its ordering key and its patients.

They are read together, since both are mostly PID-3.1 of a message with one PID and one identifier in it. Every other
message is read by ``lane_keys.py`` and ``patients.py``, which say what each of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.config.plan import Order, Patients
from engine.hl7.escape import as_data
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.hl7.places import position_of
from engine.runtime import lane_keys, patients

#: Of what came, and the query of a request: the text of its ordering keys, and the ids of its patients.
Read = Callable[[Any, Mapping[str, Any]], tuple[str, tuple[str, ...]]]


def reader(order: Order, named: Patients, hashed: Callable[[str], str]) -> Read:
    """Reads both from what comes over one channel; ``hashed`` is ``Store.lane_key``."""
    key_of, ids_of = lane_keys.reader(order, hashed), patients.reader(named)
    paths = [path for path, _ in named.paths]
    by_key, keyed = order.kind == "key", order.paths[:1]
    #: Where ids stand: segment, index of the field, whether the key is what stands there.
    places = [(path.segment, position_of(path), by_key and (path,) == keyed) for path in paths]
    #: A merge has the keys of everybody it names. Where its MRG is read for the patients it is seen by that.
    merges_unseen = bool(order.merges) and all(path.segment != "MRG" for path in paths)

    def read_apart(body: Any, query: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        return key_of(body), ids_of(body, query)

    def read(body: Any, query: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        if not isinstance(body, Message):
            return read_apart(body, query)
        found, key = [], ""
        for name, position, is_key in places:
            fields = body.sole(name)
            if fields is None or (fields and name == "MRG"):
                return read_apart(body, query)
            if position >= len(fields):
                continue
            text = fields[position]
            if "~" in text:
                return read_apart(body, query)
            value = text.partition("^")[0]
            if value:
                if not value.isalnum():
                    value = as_data(value, body.separators, body.codec)
                if value:
                    found.append(value)
                    if is_key:
                        key = value
        if by_key:
            is_one = key and not (merges_unseen and body.count("MRG"))
            key = hashed(key).replace(lane_keys.BETWEEN, " ") if is_one else key_of(body)
        return key, tuple(found) if len(found) < 2 else tuple(dict.fromkeys(found))

    return read if paths and all(map(_is_first_component, paths)) else read_apart


def _is_first_component(path: Path) -> bool:
    """Whether it is written as ``PID-3.1`` is: the first component of a field, of the first segment of its name."""
    others = (path.segment_index, path.repetition, path.subcomponent)
    return path.component == 1 and others == (None, None, None) and position_of(path) > 0
