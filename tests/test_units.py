import pytest
from pydantic import BaseModel, ValidationError

from engine.units import Duration, Size, Timeout, parse_duration, parse_rate, parse_size


class Sample(BaseModel):
    every: Duration = 0
    timeout: Timeout = 1
    limit: Size = 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("30d", 2592000), ("1w", 604800), (10, 10), (0.5, 0.5)],
)
def test_times_are_read_in_seconds(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65536), ("16MiB", 16777216), ("1MB", 1000000), (12, 12), ("7", 7)]
)
def test_sizes_are_read_in_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "s", "5 minutes", "-1s", "1.2.3s", "never", None, True, -1, [1]])
def test_what_is_no_quantity_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_duration(text)
    with pytest.raises(ValueError, match="expected"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("10/s", 10), ("300/m", 5), ("36/h", 0.01), ("2.5 / s", 2.5), (4, 4), ("7", 7)]
)
def test_rates_are_read_as_so_many_a_second(text: str | float, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "0/s", "10/d", "10/s/s", "-1/s", "ten/s", None, True, 0, -1, [1]])
def test_what_is_no_rate_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a rate such as 10/s or 300/m"):
        parse_rate(text)


def test_models_take_units() -> None:
    sample = Sample.model_validate({"every": "1.5s", "timeout": "2m", "limit": "1KiB"})
    assert (sample.every, sample.timeout, sample.limit) == (1.5, 120, 1024)


def test_a_time_out_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({"timeout": 0})


def test_the_schema_names_number_and_text() -> None:
    every = Sample.model_json_schema(mode="validation")["properties"]["every"]
    assert {choice["type"] for choice in every["anyOf"]} == {"number", "string"}
