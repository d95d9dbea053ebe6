"""Which keys a place in a pydantic model takes: pydantic names the unknown key, this names the known ones.

Follows fields (by alias), lists, mappings, unions and Annotated; what is no model has no keys to name.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from engine.config.yaml import Key, KeyPath


def fields_at(annotation: Any, path: KeyPath) -> list[str]:
    """The keys that the models at ``path`` below ``annotation`` take, in the order in which they are declared."""
    places = list(_forms(annotation))
    for key in path:
        places = [inner for place in places for inner in _inside(place, key)]
    return list(dict.fromkeys(name for place in places if _is_model(place) for name in _names(place)))


def _forms(annotation: Any) -> Iterator[Any]:
    """The branches of a union, Annotated and type aliases unwrapped."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _forms(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for branch in get_args(annotation):
            yield from _forms(branch)
    else:
        yield annotation


def _inside(annotation: Any, key: Key) -> Iterator[Any]:
    """What stands at ``key`` inside ``annotation``."""
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if key == (field.alias or name):
                yield from _forms(field.annotation)
        return
    arguments = get_args(annotation)
    if arguments:
        yield from _forms(arguments[-1] if isinstance(key, str) else arguments[0])


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
