"""What a channel was compiled from, as one hash: a reload leaves a channel alone whose inputs are the same.

Inputs are the channel's file and every file that it includes, with ``${VAR}`` filled in; the tables, schemas and Python
of the site that it names; and the parts of ``site.yaml`` that these files mention. Comments are no inputs.
Certificates are not either: they are watched by those who use them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from engine.config.files import SiteFiles
from engine.config.yaml import Document

#: ``$site.ris``, and ``site.ris`` in a template; without a member it may be any.
_SITE = re.compile(r"\$site\b(?:\.([A-Za-z0-9_-]+))?")
_SITE_IN_TEMPLATE = re.compile(r"\bsite\b(?:\.([A-Za-z0-9_-]+))?")


def fingerprint(channel: Document, used: Collection[str], files: SiteFiles) -> str:
    """One hash over all inputs; ``used``: files of the site that the channel led to."""
    included = [files.documents[file] for file in sorted(used) if file in files.documents]
    documents = [channel, *included]
    inputs: list[Any] = [[document.file, document.value] for document in documents]
    said = {word for document in documents for word in texts_in(document.value)}
    schemas = {f"transforms/{name}.json" for name in files.names("transforms", ".json") if name in said}
    inputs += [[file, files.digest(file)] for file in sorted({*used, *schemas} - set(files.documents))]
    parts = {part for word in said for part in (_SITE_IN_TEMPLATE if "{{" in word else _SITE).findall(word)}
    parts.add("timezone")
    if not (isinstance(channel.value, dict) and "patients" in channel.value):
        parts.add("patients")
    whole = "" in parts
    inputs.append({name: value for name, value in files.values.items() if whole or name in parts})
    text = json.dumps(inputs, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from texts_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
