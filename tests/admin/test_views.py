"""Stored bytes as text, times as text."""

import pytest

from engine.admin.views import codes_view, moment, text_of
from engine.errors import Evidence

HEAD = "MSH|^~\\&|A|B|C|D|20250101||ACK|1|P|2.3|"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ((HEAD + "|||||8859/1\rNTE|1||Müller\r").encode("latin-1"), "NTE|1||Müller\r"),
        ((HEAD + "|||||8859/2\rNTE|1||Łódź\r").encode("iso8859-2"), "NTE|1||Łódź\r"),
        ((HEAD + "|||||UNICODE UTF-8\rNTE|1||Müller\r").encode(), "NTE|1||Müller\r"),
        ((HEAD + "\rNTE|1||Müller\r").encode(), "NTE|1||Müller\r"),
        ((HEAD + "\rNTE|1||M\xfcller\r").encode("latin-1"), "NTE|1||Müller\r"),
        ((HEAD + "|||||UNICODE UTF-8\rNTE|1||M\xfcller\r").encode("latin-1"), "NTE|1||Müller\r"),
        ('{"name": "Müller"}'.encode(), '{"name": "Müller"}'),
        (b"\xff\xfe", "ÿþ"),
        (b"", ""),
    ],
)
def test_bytes_are_read_in_the_charset_they_name(body: bytes, text: str) -> None:
    assert text_of(body).endswith(text)


def test_never_is_no_time() -> None:
    assert (moment(None), moment(0.0), moment(1.0625)) == (None, None, "1970-01-01T00:00:01.062Z")


def test_codes_leave_out_what_is_not_there_and_every_text() -> None:
    assert codes_view(Evidence("AE", application_error="SLOT_TAKEN", text="Doe")) == {
        "ack": "AE",
        "application_error": "SLOT_TAKEN",
    }
    assert codes_view(None) == {}
