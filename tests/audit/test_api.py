"""The JSON API as the platform calls it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from audit import outbox
from audit.api import body, schemas
from audit.intake.rows import COMPLAINT_FIELDS, ITEM_FIELDS
from audit.models import ApiKey, Complaint, Item, ItemState, Report
from extraction.errors import SearchUnavailable
from extraction.search import SearchRequest, get_engine
from extraction.text import MatchMode
from tests.factories import make_item, make_policy

pytestmark = pytest.mark.django_db
WHEN = "2026-05-04T09:30:00+08:00"


@pytest.fixture(autouse=True)
def _own_index(settings: Any, tmp_path: Path) -> None:
    settings.SEARCH_FILE = tmp_path / "search.sqlite3"
    get_engine().rebuild([])


def make_key(**kwargs: Any) -> str:
    values: dict[str, Any] = {
        "name": "forum",
        "platform": "forum",
        "can_write_items": True,
        "can_write_complaints": True,
        "can_read_verdicts": True,
    }
    _row, key = ApiKey.objects.create_key(**(values | kwargs))
    return key


@pytest.fixture
def key() -> str:
    return make_key()


def post(path: str, content: Any, key: str | None = None, **extra: Any) -> Any:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {} if key is None else {"authorization": f"Api-Key {key}"}
    options = {"content_type": "application/json"} | extra
    return Client().post(f"/api/v1/{path}", raw, headers=headers, **options)


def get(path: str, key: str) -> Any:
    return Client().get(f"/api/v1/{path}", headers={"authorization": f"Api-Key {key}"})


def item(external_id: str = "a", **changes: Any) -> dict[str, Any]:
    return {"external_id": external_id, "text": "cheap diploma", "created": WHEN} | changes


def complaint(external_id: str = "c", **changes: Any) -> dict[str, Any]:
    return {"external_id": external_id, "item_external_id": "a", "policy": "spam", "at": WHEN} | changes


def detail(response: HttpResponse) -> str:
    return str(json.loads(response.content)["detail"])


# --- keys -----------------------------------------------------------------------------------------------------------


def test_without_a_key_the_answer_is_401_and_says_how() -> None:
    response = post("items", [item()])
    assert (response.status_code, "Authorization: Api-Key" in detail(response)) == (401, True)
    assert response["www-authenticate"].startswith("Api-Key")


@pytest.mark.parametrize("key", ["nonsense", "abcdefgh.nonsense", "k\u00e9y", "x" * 5_000])
def test_an_unknown_key_is_401(key: str) -> None:
    response = post("items", [item()], key)
    assert (response.status_code, "not known" in detail(response)) == (401, True)


def test_a_revoked_key_is_401(key: str) -> None:
    ApiKey.objects.update(revoked=True)
    assert post("items", [item()], key).status_code == 401


def test_an_expired_key_is_401_and_says_so() -> None:
    response = post("items", [item()], make_key(expiry_date=timezone.now() - timedelta(days=1)))
    assert (response.status_code, detail(response)) == (401, "This key has expired.")


@pytest.mark.parametrize(
    ("scope", "path"),
    [("can_write_items", "items"), ("can_write_items", "items/gone"), ("can_write_complaints", "complaints")],
)
def test_a_key_without_the_scope_is_403(scope: str, path: str) -> None:
    response = post(path, [], make_key(**{scope: False}))
    assert (response.status_code, "may not write" in detail(response)) == (403, True)


def test_reading_verdicts_needs_its_own_scope() -> None:
    assert get("verdicts", make_key(can_read_verdicts=False)).status_code == 403


def test_the_key_itself_is_not_stored(key: str) -> None:
    assert key not in str(list(ApiKey.objects.values()))


def test_a_login_opens_nothing_here(admin: Any, login: Any) -> None:
    response = login(admin).post("/api/v1/items", "[]", content_type="application/json")
    assert response.status_code == 401


# --- items ----------------------------------------------------------------------------------------------------------


def test_items_are_stored_under_the_platform_of_the_key_and_can_be_found_at_once(key: str) -> None:
    response = post("items", [item("a"), item("b", text="cheap degree")], key)
    assert response.status_code == 200
    assert json.loads(response.content) == {"created": 2, "changed": 0, "same": 0, "problems": []}
    assert set(Item.objects.values_list("platform", flat=True)) == {"forum"}
    assert get_engine().search(SearchRequest("cheap", MatchMode.PHRASE)).counts.live == 2


def test_good_rows_are_kept_and_bad_ones_named_by_index(key: str) -> None:
    response = post("items", [item("a"), {"external_id": "b"}, 17, item("a"), item("c", created="2026-05-04")], key)
    answer = json.loads(response.content)
    assert (response.status_code, answer["created"]) == (200, 1)
    assert [problem["index"] for problem in answer["problems"]] == [1, 2, 3, 4]
    assert "offset" in answer["problems"][3]["reason"]


def test_nothing_but_bad_rows_is_422(key: str) -> None:
    assert post("items", [{"external_id": "b"}], key).status_code == 422


def test_an_empty_list_is_fine(key: str) -> None:
    assert post("items", [], key).status_code == 200


def test_another_platform_s_rows_are_refused(key: str) -> None:
    answer = json.loads(post("items", [item(platform="chat")], key).content)
    assert "platform forum" in answer["problems"][0]["reason"]
    assert not Item.objects.exists()


def test_more_than_a_thousand_rows_are_refused(key: str) -> None:
    response = post("items", [item(str(number)) for number in range(1_001)], key)
    assert (response.status_code, "1001 rows" in detail(response)) == (400, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[{", "not JSON"),
        (b"", "must be a list"),
        (b"{}", "must be a list"),
        (b"[" * 100_000, "nested deeper"),
        ('["加"]'.encode("gb18030"), "not UTF-8"),
        (b'["\0"]', "not JSON"),
    ],
)
def test_a_body_of_no_use_is_400_with_its_reason(key: str, content: bytes, reason: str) -> None:
    response = post("items", content, key)
    assert (response.status_code, reason in detail(response)) == (400, True)


def test_a_nul_in_a_text_is_a_problem_of_its_row(key: str) -> None:
    answer = json.loads(post("items", [item(text="a\0b")], key).content)
    assert "NUL" in answer["problems"][0]["reason"]


def test_a_body_that_is_too_large_is_413(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_BODY", 100)
    assert post("items", [item(text="x" * 200)], key).status_code == 413


def test_another_content_type_is_415(key: str) -> None:
    assert post("items", b"a=1", key, content_type="application/x-www-form-urlencoded").status_code == 415


def test_items_are_stored_where_the_engine_is_down(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: object, documents: object) -> None:
        raise SearchUnavailable("no answer")

    monkeypatch.setattr(type(get_engine()), "put", down)
    assert post("items", [item()], key).status_code == 200
    assert Item.objects.to_index().count() == 1


def test_items_that_are_gone_leave_the_results(key: str) -> None:
    post("items", [item("a"), item("b")], key)
    response = post("items/gone", {"external_ids": ["a", "zzz"]}, key)
    assert json.loads(response.content) == {"gone": 1, "unknown": ["zzz"]}
    assert Item.objects.get(external_id="a").state == ItemState.GONE
    assert get_engine().search(SearchRequest("cheap", MatchMode.PHRASE)).counts.live == 1


@pytest.mark.parametrize("content", [[], {}, {"external_ids": "a"}, {"external_ids": [None]}, {"external_ids": ["\0"]}])
def test_gone_without_a_list_of_ids_is_400(key: str, content: Any) -> None:
    assert post("items/gone", content, key).status_code == 400


# --- complaints -----------------------------------------------------------------------------------------------------


def test_complaints_open_one_report_for_an_item(key: str) -> None:
    make_policy("spam")
    make_item(platform="forum", external_id="a")
    response = post("complaints", [complaint("c1"), complaint("c2", reason="again")], key)
    assert (response.status_code, json.loads(response.content)["created"]) == (200, 2)
    assert (Report.objects.count(), Complaint.objects.count()) == (1, 2)


def test_a_complaint_about_an_unknown_item_is_a_problem(key: str) -> None:
    make_policy("spam")
    response = post("complaints", [complaint()], key)
    assert response.status_code == 422
    assert "not known" in json.loads(response.content)["problems"][0]["reason"]


def test_a_complaint_cannot_create_a_policy(key: str) -> None:
    make_item(platform="forum", external_id="a")
    answer = json.loads(post("complaints", [complaint(policy="new")], key).content)
    assert "no policy" in answer["problems"][0]["reason"]


# --- verdicts -------------------------------------------------------------------------------------------------------


def publish(count: int = 1) -> None:
    for _ in range(count):
        made = make_item(platform="forum")
        outbox.emit(item=made, kind="verdict", payload={"verdict": "toxic"}, at=datetime(2026, 5, 4, tzinfo=UTC))
    outbox.publish()


def test_a_reader_who_follows_the_cursor_gets_each_event_once(key: str) -> None:
    publish(5)
    seen, cursor, more = [], 0, True
    while more:
        page = json.loads(get(f"verdicts?after={cursor}&limit=2", key).content)
        seen += [event["sequence"] for event in page["events"]]
        cursor, more = page["next"], page["more"]
    assert (seen, cursor) == ([1, 2, 3, 4, 5], 5)


def test_another_platform_s_verdicts_are_not_shown() -> None:
    publish()
    page = json.loads(get("verdicts", make_key(platform="chat")).content)
    assert page == {"events": [], "next": 1, "more": False}


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "limit=0", "limit=1001", "after=1.5", f"after={'9' * 40}", "after=²"]
)
def test_a_number_that_is_none_is_400(key: str, query: str) -> None:
    assert get(f"verdicts?{query}", key).status_code == 400


def test_reading_changes_nothing(key: str) -> None:
    outbox.emit(item=make_item(platform="forum"), kind="verdict", payload={}, at=timezone.now())
    assert json.loads(get("verdicts", key).content)["events"] == []
    assert post("verdicts", [], key).status_code == 405


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_brings_no_inline_script_or_style() -> None:
    page = Client().get("/api/v1/").content.decode()
    assert "swagger-ui" in page
    assert "<style" not in page and "style=" not in page and "<script>" not in page
    assert "//cdn" not in page


def test_the_page_s_script_is_served_from_here() -> None:
    response = Client().get("/api/v1/?script=")
    assert response["content-type"].startswith("application/javascript")
    assert b"/api/v1/schema" in response.content


def test_the_schema_names_every_call_and_the_key() -> None:
    response = Client().get("/api/v1/schema?format=json")
    schema = json.loads(response.content)
    assert set(schema["paths"]) == {f"/api/v1/{path}" for path in ("items", "items/gone", "complaints", "verdicts")}
    assert schema["components"]["securitySchemes"]["ApiKey"]["name"] == "Authorization"
    assert schema["paths"]["/api/v1/items"]["post"]["security"] == [{"ApiKey": []}]


def test_the_schema_has_the_fields_of_the_rows() -> None:
    assert set(schemas.ItemSchema().fields) == set(ITEM_FIELDS)
    assert set(schemas.ComplaintSchema().fields) == set(COMPLAINT_FIELDS)
