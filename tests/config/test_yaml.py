import pytest

from engine.config.yaml import MAX_BYTES, MAX_DEPTH, Document, dotted, parse, plain


def read(text: str) -> Document:
    return parse(text.encode(), "channels/x.yaml")


def faults(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in read(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-17", -17),
        ("2575", 2575),
        ("2.3", 2.3),
        ("-0.5", -0.5),
        ("yes", "yes"),
        ("NO", "NO"),
        ("on", "on"),
        ("0123", "0123"),
        ("08", "08"),
        ("+12175550100", "+12175550100"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("1e3", "1e3"),
        (".5", ".5"),
        (".inf", ".inf"),
        ("5.10", "5.10"),
        ("2.5.1", "2.5.1"),
        ("-0", "-0"),
        ("2026-11-20", "2026-11-20"),
        ("1234567890123456789012", "1234567890123456789012"),
        ("=", "="),
    ],
)
def test_unquoted_scalars_change_type_only_where_nobody_can_be_surprised(text: str, value: object) -> None:
    found = plain(text)
    assert found == value
    assert type(found) is type(value)
    if text:
        assert read(f"- {text}").value == [value]


@pytest.mark.parametrize("number", ["2.3", "0.25", "100.5", "7", "-12"])
def test_what_becomes_a_number_is_written_out_as_it_was_written(number: str) -> None:
    assert str(plain(number)) == number


def test_quoted_and_block_scalars_are_text() -> None:
    assert read("a: '1'\nb: \"true\"\nc: |\n  2\n").value == {"a": "1", "b": "true", "c": "2\n"}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read("207: retry\nNO: a\ntrue: b\n~: c\n").value == {"207": "retry", "NO": "a", "true": "b", "~": "c"}


def test_every_key_and_item_knows_its_line_and_column() -> None:
    document = read("a:\n  - b: 1\n    c:\n      - x\n      - y: {z: 2}\n")
    mark = document.mark
    assert (mark.find(("a",)).line, mark.find(("a",)).column) == (1, 1)
    assert (mark.find(("a", 0)).line, mark.find(("a", 0)).column) == (2, 5)
    assert (mark.find(("a", 0, "c")).line, mark.find(("a", 0, "c")).column) == (3, 5)
    assert mark.find(("a", 0, "c", 1, "y", "z")).line == 5
    assert mark.find(("a", 0, "c", 7)).line == 3, "what does not exist is looked for at the nearest thing above"


def test_paths_are_written_as_admins_read_them() -> None:
    assert dotted(("destinations", 0, "retry", "backoff", 2)) == "destinations[0].retry.backoff[2]"
    assert dotted(()) == ""


def test_a_duplicate_key_names_both_lines_and_the_rest_is_read() -> None:
    document = read("name: a\nack: routed\nname: b\n")
    assert [(problem.line, problem.key, problem.message) for problem in document.problems] == [
        (3, "name", "the key `name` stands here and in line 1")
    ]
    assert document.value == {"name": "a", "ack": "routed"}
    assert document.usable


def test_all_duplicate_keys_are_told() -> None:
    assert [line for line, _ in faults("a: {b: 1, b: 2}\nc: 1\na: 2\nc: 3\n")] == [1, 3, 4]


def test_an_alias_repeats_its_anchor_and_keeps_the_lines_of_the_original() -> None:
    document = read("one: &x\n  port: 1\ntwo: *x\n")
    assert document.value == {"one": {"port": 1}, "two": {"port": 1}}
    assert document.mark.find(("two",)).line == 3
    assert document.mark.find(("two", "port")).line == 2


def test_merged_keys_lie_under_the_own_ones() -> None:
    document = read("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n")
    assert document.value["c"] == {"x": 9, "y": 2, "z": 4}
    assert document.mark.find(("c", "z")).line == 2
    assert not document.problems


def test_a_merge_of_something_else_is_a_problem() -> None:
    assert faults("a: &a [1]\nb:\n  <<: *a\n") == [(3, "`<<` takes keys from elsewhere")]


def test_an_unknown_alias_is_a_problem() -> None:
    assert faults("a: 1\nb: *nothing\n") == [(2, "`*nothing` stands for nothing")]


def test_an_anchor_cannot_contain_itself() -> None:
    assert faults("a: &a [1, *a]\n") == [(1, "`*a` stands for nothing")]


def test_what_aliases_expand_to_is_bounded() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert [message for _, message in faults("\n".join(rows))] == ["too many values"]


def test_depth_is_bounded() -> None:
    assert faults("[" * 5000) == [(1, f"nested more than {MAX_DEPTH} deep")]


def test_size_is_bounded() -> None:
    assert faults("#" * (MAX_BYTES + 1)) == [(0, "the file is too large")]


@pytest.mark.parametrize("text", ["a: !!int '3'", "a: !secret x", "a: !!python/object:os.x [1]", "a: !!map {b: 1}"])
def test_tags_are_refused(text: str) -> None:
    ((line, message),) = faults(text)
    assert line == 1
    assert message.startswith("the tag `")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a:\n\tb: 1\n", 2, "a tab, or one of @ ` %, begins a value"),
        ("a: b: c\n", 1, "a `: ` where no key can stand"),
        ("a: 1\n  b: 2\n", 2, "a `: ` where no key can stand"),
        ("a:\n  b: 1\n c: 2\n", 3, "the indentation does not fit the lines above"),
        ("- a\nb: 1\n", 2, "the indentation does not fit the list above"),
        ("x: 0\na: [1,\nb: 2\n", 2, "a list in [ ] is not closed (noticed in line 4)"),
        ("a: {b: 1\nc: 2\n", 1, "keys in { } are not closed (noticed in line 2)"),
        ("b: 1\na: 'x\n\nc: 1", 2, "a quote is not closed (noticed in line 4)"),
        ('x: "\\q"', 1, "not YAML: found unknown escape character"),
        ("a: 1\n---\nb: 1\n", 2, "a second document begins here"),
        ("a: 1\nb: \x01", 2, "a character that YAML does not allow"),
        ("", 0, "the file is empty"),
        ("# only a comment\n", 0, "the file is empty"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_problem_at_the_line_to_mend(text: str, line: int, message: str) -> None:
    document = read(text)
    assert [(problem.line, problem.message) for problem in document.problems] == [(line, message)]
    assert not document.usable
    assert document.value is None


def test_a_key_that_is_no_word_is_a_problem() -> None:
    assert faults("[a, b]: 1\nc: 2\n") == [(1, "this key is no plain word")]


def test_bytes_that_are_no_utf8_are_a_problem_with_their_line() -> None:
    document = parse("a: 1\nb: M\xfcller\n".encode("latin-1"), "x.yaml")
    assert [(problem.line, problem.message) for problem in document.problems] == [(2, "a character is not UTF-8")]


def test_a_byte_order_mark_is_no_part_of_the_file() -> None:
    assert parse(b"\xef\xbb\xbfa: 1\n", "x.yaml").value == {"a": 1}
