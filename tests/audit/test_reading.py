"""Lines of a file as rows, or each with the reason why not."""

import gzip
import io
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from audit.intake.reading import (
    MAX_LINE,
    FileFormat,
    UnreadableFile,
    format_of,
    ignored_names,
    open_stream,
    read_rows,
)
from audit.intake.rows import ComplaintRow, ItemRow, RowDefaults
from audit.models import ImportKind

GOOD: dict[str, Any] = {"external_id": "a", "text": "加微信", "created": "2026-05-04T09:30:00+08:00"}


def read(
    content: bytes | list[Any], *, kind: ImportKind = ImportKind.ITEMS, csv: bool = False, zone: str = ""
) -> list[Any]:
    """(line, row) or (line, reason) of everything that is read; JSONL from a list of objects."""
    if isinstance(content, list):
        content = "".join(json.dumps(one) + "\n" for one in content).encode()
    defaults = RowDefaults(platform="forum", zone=ZoneInfo(zone) if zone else None)
    reads = read_rows(io.BytesIO(content), kind, FileFormat.CSV if csv else FileFormat.JSONL, defaults)
    return [(read.line, read.row or read.reason) for read in reads]


def reason(**changes: Any) -> str:
    """Why a row with these values is refused."""
    ((_line, found),) = read([GOOD | changes])
    assert isinstance(found, str), found
    return found


def test_a_good_line_becomes_a_row_in_utc() -> None:
    ((line, row),) = read([GOOD])
    assert isinstance(row, ItemRow)
    assert (line, row.platform, row.external_id, row.text) == (1, "forum", "a", "加微信")
    assert row.created.isoformat() == "2026-05-04T01:30:00+00:00"


def test_good_lines_around_a_bad_one_are_kept() -> None:
    reads = read(json.dumps(GOOD).encode() + b"\n{broken\n" + json.dumps(GOOD | {"external_id": "b"}).encode())
    assert [line for line, _ in reads] == [1, 2, 3]
    assert isinstance(reads[1][1], str) and "not JSON" in reads[1][1]
    assert reads[2][1].external_id == "b"


def test_blank_lines_are_passed_over_and_counted() -> None:
    reads = read(b"\n\n" + json.dumps(GOOD).encode())
    assert [line for line, _ in reads] == [3]


def test_a_byte_order_mark_is_dropped() -> None:
    ((_line, row),) = read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert isinstance(row, ItemRow)


def test_an_id_may_be_a_whole_number() -> None:
    ((_line, row),) = read([GOOD | {"external_id": 17}])
    assert row.external_id == "17"


def test_a_time_without_offset_is_refused_unless_a_zone_is_given() -> None:
    assert "offset" in reason(created="2026-05-04 09:30")
    ((_line, row),) = read([GOOD | {"created": "2026-05-04 09:30"}], zone="Asia/Shanghai")
    assert row.created.isoformat() == "2026-05-04T01:30:00+00:00"


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01T00:00:00Z", 1777886400, "04/05/2026"])
def test_what_is_no_time_is_refused(value: Any) -> None:
    assert "created must be a time" in reason(created=value)


def test_a_time_outside_the_calendar_is_refused() -> None:
    assert "years" in reason(created="0001-01-01T00:00:00+14:00")


def test_a_missing_field_is_named() -> None:
    assert reason(text=None) == "text is missing or empty."
    assert reason(external_id=" ") == "external_id is missing."


def test_a_value_of_another_type_is_refused() -> None:
    assert reason(text=["a"]) == "text must be text."
    assert reason(external_id=True) == "external_id must be text."


def test_a_text_that_is_too_long_is_refused_with_its_length() -> None:
    found = reason(text="长" * 20_001)
    assert "20001" in found and "20000" in found


def test_the_longest_text_that_is_allowed_is_kept() -> None:
    ((_line, row),) = read([GOOD | {"text": "长" * 20_000}])
    assert len(row.text) == 20_000


def test_a_nul_character_is_refused_with_its_place() -> None:
    assert reason(text="a\0b") == "text holds a NUL character (at position 1)."


def test_a_nul_byte_is_refused() -> None:
    ((_line, found),) = read(json.dumps(GOOD).encode().replace(b"external", b"exte\0nal"))
    assert "NUL byte" in found


def test_a_lone_surrogate_is_dropped() -> None:
    ((_line, row),) = read([GOOD | {"text": "a\ud800b"}])
    assert row.text == "ab"


def test_an_address_that_is_no_web_address_is_refused() -> None:
    assert "http" in reason(url="javascript:alert(1)")


def test_deep_nesting_is_refused_without_reading_it() -> None:
    ((_line, found),) = read(b'{"external_id": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    assert found == "nested deeper than 5 levels."


def test_brackets_inside_a_text_are_no_nesting() -> None:
    ((_line, row),) = read([GOOD | {"text": '[[[[[[[[ "{{{{{{{{" \\'}])
    assert isinstance(row, ItemRow)


def test_another_encoding_is_refused_with_the_byte() -> None:
    ((_line, found),) = read('{"text": "加微信"}'.encode("gb18030"))
    assert found == "not UTF-8: byte 11 cannot be read."


def test_a_file_in_utf_16_is_refused_as_a_whole() -> None:
    with pytest.raises(UnreadableFile, match="UTF-16"):
        read(json.dumps(GOOD).encode("utf-16"))


def test_a_line_that_is_too_long_is_refused_and_the_next_one_read() -> None:
    reads = read(b'{"text": "' + b"x" * (3 * MAX_LINE) + b'"}\n' + json.dumps(GOOD).encode())
    assert "longer than" in reads[0][1]
    assert (reads[1][0], isinstance(reads[1][1], ItemRow)) == (2, True)


@pytest.mark.parametrize("line", [b"[1]", b'"text"', b"17", b"null"])
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    assert "one JSON object" in read(line)[0][1]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1" * 5000])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    assert "number" in read(f'{{"external_id": {number}}}'.encode())[0][1]


def test_a_complaint_needs_its_item_and_policy() -> None:
    values = {"external_id": "c", "item_external_id": "a", "policy": "spam", "at": "2026-05-04T00:00:00Z"}
    ((_line, row),) = read([values], kind=ImportKind.REPORTS)
    assert isinstance(row, ComplaintRow) and row.item_key == ("forum", "a")
    ((_line, found),) = read([values | {"policy": ""}], kind=ImportKind.REPORTS)
    assert found == "policy is missing or empty."


def test_csv_reads_quoted_cells_with_line_breaks_and_numbers_the_lines() -> None:
    content = 'external_id,text,created,extra\na,"one\n""two""",2026-05-04T00:00:00Z,x\nb,,2026-05-04T00:00:00Z,x\n'
    reads = read(content.encode(), csv=True)
    assert reads[0][0] == 2 and reads[0][1].text == 'one\n"two"'
    assert reads[1] == (4, "text is missing or empty.")


def test_csv_with_a_missing_column_is_refused_as_a_whole() -> None:
    with pytest.raises(UnreadableFile, match="lacks: text, created"):
        read(b"external_id,name\na,b\n", csv=True)


def test_csv_that_names_a_column_twice_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="twice"):
        read(b"external_id,text,text,created\n", csv=True)


def test_csv_with_a_wrong_number_of_cells_is_refused_by_line() -> None:
    reads = read(b"external_id,text,created\na,b\nc,d,2026-05-04T00:00:00Z\n", csv=True)
    assert "2 cells" in reads[0][1]
    assert reads[1][1].external_id == "c"


def test_csv_in_another_encoding_is_refused_by_line() -> None:
    content = (
        b"external_id,text,created\na,"
        + "加微信".encode("gb18030")
        + b",2026-05-04T00:00:00Z\nb,c,2026-05-04T00:00:00Z\n"
    )
    reads = read(content, csv=True)
    assert reads[0] == (2, "not UTF-8.")
    assert reads[1][1].external_id == "b"


def test_csv_with_a_nul_is_refused_by_line() -> None:
    reads = read(b"external_id,text,created\na,b\0,2026-05-04T00:00:00Z\nb,c,2026-05-04T00:00:00Z\n", csv=True)
    assert "NUL" in reads[0][1]
    assert reads[1][1].external_id == "b"


def test_csv_with_a_quote_that_is_never_closed_says_where_it_began() -> None:
    reads = read(b'external_id,text,created\na,"b,2026-05-04T00:00:00Z\nb,c,2026-05-04T00:00:00Z\n', csv=True)
    assert (reads[0][0], "quote" in reads[0][1]) == (2, True)


def test_packed_files_are_unpacked() -> None:
    file = io.BytesIO(gzip.compress(json.dumps(GOOD).encode()))
    assert open_stream(file, "items.jsonl.gz").read() == json.dumps(GOOD).encode()


def test_a_damaged_packed_file_says_how_far_it_is_good() -> None:
    packed = gzip.compress((json.dumps(GOOD) + "\n").encode() * 2, compresslevel=0)
    stream = open_stream(io.BytesIO(packed[:-6]), "items.jsonl.gz")
    with pytest.raises(UnreadableFile, match="damaged"):
        list(read_rows(stream, ImportKind.ITEMS, FileFormat.JSONL, RowDefaults(platform="forum")))


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", "jsonl"), ("A.CSV", "csv"), ("a.ndjson.gz", "jsonl"), ("a.csv.gz", "csv")],
)
def test_the_format_is_read_from_the_name(name: str, format: str) -> None:
    assert format_of(name) == format


def test_a_name_without_a_known_end_is_refused() -> None:
    with pytest.raises(UnreadableFile):
        format_of("items.xlsx")


def test_names_that_are_no_field_are_told() -> None:
    assert ignored_names(["text", "txet", "txet"], ImportKind.ITEMS) == ["txet"]
