"""Table 0211, the usual spellings, and codecs that must not be taken for charsets."""

from __future__ import annotations

import codecs

import pytest

from engine.hl7.charset import TABLE_0211, codec, decode, hl7_name, is_exact


@pytest.mark.parametrize("name", TABLE_0211)
def test_every_name_of_the_table_is_a_codec_python_has(name: str) -> None:
    found = codec(name)
    assert found is not None
    assert codecs.lookup(found).name == found


@pytest.mark.parametrize(
    ("spelled", "found"),
    [
        ("ISO-8859-1", "iso8859-1"),
        ("iso 8859/15", "iso8859-15"),
        ("8859-2", "iso8859-2"),
        ("ISO8859/7", "iso8859-7"),
        ("latin-1", "iso8859-1"),
        ("UTF-8", "utf-8"),
        ("utf8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("unicode utf-8", "utf-8"),
        (" UNICODE  UTF-8 ", "utf-8"),
        ("us-ascii", "ascii"),
        ("windows-1252", "cp1252"),
        ("Shift_JIS", "shift_jis"),
        ("GBK", "gbk"),
        ("big5", "big5"),
    ],
)
def test_usual_spellings_are_understood(spelled: str, found: str) -> None:
    assert codec(spelled) == found


@pytest.mark.parametrize(
    "name", ["", "8859/99", "rot13", "hex", "base64", "idna", "utf-7", "unicode_escape", "x\0y", "no"]
)
def test_what_is_no_charset_is_none(name: str) -> None:
    assert codec(name) is None


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ("utf-8", "UNICODE UTF-8"),
        ("UTF8", "UNICODE UTF-8"),
        ("latin-1", "8859/1"),
        ("ascii", "ASCII"),
        ("cp1252", None),
    ],
)
def test_codecs_have_their_name_in_the_table(known: str, name: str | None) -> None:
    assert hl7_name(known) == name


@pytest.mark.parametrize("name", ["ascii", "utf-8", "iso8859-1", "iso8859-3", "iso8859-7", "cp1252"])
def test_one_byte_sets_and_utf8_give_every_byte_back(name: str) -> None:
    raw = bytes(range(256))
    assert is_exact(name)
    text, used = decode(raw, name)
    assert text.encode(used, "surrogateescape") == raw


@pytest.mark.parametrize("name", ["shift_jis", "gb18030", "big5", "iso2022_jp_ext", "utf-16"])
def test_sets_of_several_bytes_are_known_not_to(name: str) -> None:
    assert not is_exact(name)


@pytest.mark.parametrize("name", [name for name in map(codec, TABLE_0211) if name])
def test_decoding_never_fails(name: str) -> None:
    for raw in (bytes(range(256)), b"\x1b$Bx\x1b", b"\xff", b"\x81\x20", b"MSH|\x1b(Z\xfe"):
        text, used = decode(raw, name)
        assert text
        if used == "ascii":
            assert text.encode(used, "surrogateescape") == raw
