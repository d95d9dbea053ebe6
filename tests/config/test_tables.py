import pytest

from engine.config.tables import CsvTable, read_table


def table(text: str) -> CsvTable:
    found, problems = read_table("emr", "tables/emr.csv", text.encode())
    assert problems == []
    assert found is not None
    return found


def faults(data: bytes) -> list[tuple[int, str, str]]:
    found, problems = read_table("emr", "tables/emr.csv", data)
    assert found is None, "a table that is wrong anywhere is not used at all"
    return [(problem.line, problem.key, problem.message) for problem in problems]


def test_rows_of_a_key_come_in_file_order() -> None:
    found = table("facility,emr\nWSI,epic\nDTI,athena\nWSI,generic\n")
    assert found.columns == ("facility", "emr")
    assert [row["emr"] for row in found.rows("WSI")] == ["epic", "generic"]
    assert found.rows("nowhere") == ()


def test_values_are_left_as_they_are_written() -> None:
    found = table('id,name\n0123," Main St, 5 "\n,'.removesuffix(","))
    assert found.rows("0123") == ({"id": "0123", "name": " Main St, 5 "},)


def test_byte_order_mark_crlf_blank_lines_and_line_breaks_in_quotes_are_read() -> None:
    found = table('\ufeffid, name \r\n\r\na,"one\r\ntwo"\r\n\r\nb,three\r\n')
    assert found.columns == ("id", "name")
    assert found.rows("a")[0]["name"] == "one\r\ntwo"
    assert found.rows("b")[0]["name"] == "three"


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        table("a,b\n1,2\n").rows("1")[0]["b"] = "3"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(0, "", "the table is empty")]),
        ("a,b,a,\n1,2,3,4\n", [(1, "a", "two columns are called `a`"), (1, "", "column 4 has no name")]),
        (
            "a,b\n1,2\n3\n4,5,6\n",
            [
                (3, "", "values: 1, columns of the table: 2"),
                (4, "", "values: 3, columns of the table: 2"),
            ],
        ),
        ('a,b\n"x\ny",1\nz\n', [(4, "", "values: 1, columns of the table: 2")]),
        ("a,b\n,2\n", [(2, "a", "the key is empty")]),
        ("a;b\n1;2\n", [(1, "", "the columns are not separated by commas")]),
        ('a,b\n1,"2\n3,4\n', [(2, "", "a quote is not closed, or stands inside a value")]),
        ('a,b\n1,"2"x\n', [(2, "", "a quote is not closed, or stands inside a value")]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert faults(text.encode()) == expected


def test_bytes_that_are_no_utf8_are_told_with_their_line() -> None:
    assert faults("a,b\n1,M\xfcller\n".encode("latin-1")) == [(2, "", "a character is not UTF-8")]
