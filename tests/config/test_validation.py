"""Pydantic's errors in words, for every form of model that connectors and steps use."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from engine.config.fields import fields_at
from engine.config.interpolate import Variables, fill
from engine.config.problems import kind, nearest, of_validation, one_of
from engine.config.yaml import parse
from engine.units import Duration, Size


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Basic(Strict):
    user: str
    password: SecretStr


class Bearer(Strict):
    bearer: SecretStr


class Cat(Strict):
    kind: Literal["cat"]
    lives: int


class Dog(Strict):
    kind: Literal["dog"]
    bark: bool


class Nothing(Strict):
    pass


class Model(Strict):
    from_: str | None = Field(default=None, alias="from")
    colour: Colour = Colour.RED
    colours: dict[str, Colour] = {}
    auth: Basic | Bearer | Literal["none"] = "none"
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    step: Annotated[
        Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")],
        Discriminator(lambda value: value.get("kind") if isinstance(value, dict) else None),
    ] = Cat(kind="cat", lives=9)
    one_or_many: str | list[str] = ""
    names: dict[str, list[Bearer]] = {}
    wait: Duration = 1.0
    limit: Size = 1
    share: float = Field(default=0.5, ge=0, lt=1)
    short: str = Field(default="", max_length=3)
    nothing: Nothing = Nothing()
    pair: tuple[int, int] = (1, 2)

    @model_validator(mode="after")
    def _together(self) -> Model:
        if self.short == "bad":
            raise ValueError("short is bad; expected another word")
        return self


def told(text: str, annotation: Any = Model, env: dict[str, str] | None = None) -> list[str]:
    document = parse(text.encode(), "f")
    fill(document, Variables(env or {}, Path()))
    try:
        TypeAdapter(annotation).validate_python(document.value)
    except ValidationError as error:
        return [str(problem) for problem in of_validation(error, annotation, document, (), document.value)]
    return []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("form: x", [f"f:1: form: unknown key `form`; expected {one_of(fields_at(Model, ()))}; did you mean 'from'?"]),
        ("colour: blue", ["f:1: colour: `blue` is not known here; expected one of red, green"]),
        (
            "colours: {a: gren}",
            ["f:1: colours.a: `gren` is not known here; expected one of red, green; did you mean 'green'?"],
        ),
        (
            "auth: {beare: x}",
            ["f:1: auth.beare: unknown key `beare`; expected one of user, password, bearer; did you mean 'bearer'?"],
        ),
        (
            "auth: nnoe",
            ["f:1: auth: `nnoe` is not known here; expected none or keys with values; did you mean 'none'?"],
        ),
        ("auth: {bearer: [x]}", ["f:1: auth.bearer: found a list; expected text"]),
        ("pet: {kind: cta, lives: 1}", ["f:1: pet: found keys; expected one of cat, dog"]),
        (
            "pet: {kind: cat, live: 1}",
            ["f:1: pet.live: unknown key `live`; expected one of kind, lives, bark; did you mean 'lives'?"],
        ),
        ("pet: {kind: dog, bark: loud}", ["f:1: pet.bark: found text; expected true or false"]),
        (
            "step: {kind: dog, brak: true}",
            ["f:1: step.brak: unknown key `brak`; expected one of kind, lives, bark; did you mean 'bark'?"],
        ),
        ("one_or_many: 7", ["f:1: one_or_many: found a number; expected text or a list"]),
        ("one_or_many: [a, 7]", ["f:1: one_or_many[1]: found a number; expected text (put it in quotes)"]),
        (
            "names: {a: [{bearr: x}]}",
            ["f:1: names.a[0].bearr: unknown key `bearr`; expected bearer; did you mean 'bearer'?"],
        ),
        ("names: {a: [x, {bearer: y}]}", ["f:1: names.a[0]: found text; expected keys with values"]),
        ("wait: [1]", ["f:1: wait: found a list; expected a time such as 500ms, 30s, 5m, 2h or 30d"]),
        ("limit: 1XB", ["f:1: limit: not valid; expected a size such as 64KiB or 16MiB"]),
        ("share: 1.5", ["f:1: share: out of range; expected a number below 1.0"]),
        ("share: '1,5'", ["f:1: share: found text; expected a number"]),
        ("short: long", ["f:1: short: not valid; expected text of at most 3 characters"]),
        ("short: bad", ["f:1: short is bad; expected another word"]),
        ("nothing: {a: 1}", ["f:1: nothing.a: unknown key `a`; expected no keys"]),
        ("pair: [1]", ["f:1: pair[1]: `1` is missing"]),
        ("from: 7", ["f:1: from: found a number; expected text (put it in quotes)"]),
        ("from: yes\ncolour: ${C}", ["f:2: colour: `${C}` is not known here; expected one of red, green"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert told(text, env={"C": "s3cret"}) == expected


def test_no_word_of_pydantic_is_left() -> None:
    text = "\n".join(told("from: 1\ncolour: 1\nauth: 1\npet: 1\nstep: 1\nwait: x\nshare: x\nnothing: 1\npair: 1\n"))
    for jargon in ("Input", "pydantic", "https://", "Model", "Basic", "tag", "discriminator", "dict", "str"):
        assert jargon not in text


def test_kinds_of_values() -> None:
    values = [None, True, 1, 1.5, "x", [1], {"a": 1}]
    assert [kind(value) for value in values] == [
        "nothing",
        "true or false",
        "a number",
        "a number",
        "text",
        "a list",
        "keys",
    ]


def test_nearest_looks_past_case_and_gives_up_on_what_is_far() -> None:
    assert nearest("Routed", ["received", "routed"]) == "routed"
    assert nearest("AE", ["ae"]) == "ae"
    assert nearest("completely", ["received"]) == ""
    assert nearest(7, ["7"]) == ""


def test_lists_of_words() -> None:
    assert (one_of(["a", "b"]), one_of(["a"]), one_of([])) == ("one of a, b", "a", "")


def test_keys_are_found_along_a_path() -> None:
    assert fields_at(Model, ("auth",)) == ["user", "password", "bearer"]
    assert fields_at(Model, ("names", "x", 0)) == ["bearer"]
    assert fields_at(Model, ("from",)) == []
    assert fields_at(list[Model] | None, (0, "pet")) == ["kind", "lives", "bark"]
