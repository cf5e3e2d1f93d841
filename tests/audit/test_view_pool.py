"""The page of texts to judge: what it lists, verdicts with and without script, and the link that leads to it."""

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.append_only import maintenance_pass
from audit.models import ItemText, Judgment, Pool
from tests.factories import make_item, make_judgment, make_policy, make_policy_version, make_pool_item

HTMX = {"HX-Request": "true"}

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engine_file")]


@pytest.fixture
def client(auditor: User, login: Callable[[User], Client]) -> Client:
    return login(auditor)


@pytest.fixture
def pool() -> Pool:
    return Pool.objects.create(name="evaluation-7")


@pytest.fixture
def post(client: Client) -> Callable[..., HttpResponse]:
    def send(name: str, *args: object, htmx: bool = True, **data: Any) -> Any:
        values = {"key": str(uuid.uuid4())} | data
        return client.post(reverse(f"audit:{name}", args=args), values, headers=HTMX if htmx else {})

    return send


def page(client: Client) -> str:
    response = client.get(reverse("audit:pool"))
    assert response.status_code == 200
    return response.content.decode()


def close(pool: Pool) -> None:
    pool.closed = timezone.now()
    pool.save()


def test_nothing_to_judge_says_so_and_no_page_links_there(client: Client) -> None:
    assert "No text waits to be judged." in page(client)
    assert reverse("audit:pool") not in client.get(reverse("audit:queue")).content.decode()


def test_every_page_links_there_while_something_waits(client: Client, pool: Pool) -> None:
    make_pool_item(pool=pool)
    assert f'href="{reverse("audit:pool")}"' in client.get(reverse("audit:queue")).content.decode()


def test_who_may_not_judge_sees_no_link(researcher: User, login: Callable[[User], Client], pool: Pool) -> None:
    make_pool_item(pool=pool)
    assert reverse("audit:pool") not in login(researcher).get(reverse("audit:exports")).content.decode()


def test_texts_are_listed_in_the_order_of_the_pool_with_their_policy(client: Client, pool: Pool) -> None:
    policy = make_policy("forged", name="Forged documents").current()
    make_pool_item("the second text", pool=pool, position=2, policy_version=policy)
    make_pool_item("the first text", pool=pool, position=1, policy_version=policy)
    markup = page(client)
    assert markup.index("the first text") < markup.index("the second text")
    assert "<b>0 of 2</b> judged" in markup
    assert "policy: Forged documents" in markup
    assert "It offers the thing." in markup  # the wording, beside the first text


def test_the_page_does_not_say_who_found_a_text(client: Client, pool: Pool) -> None:
    make_pool_item(pool=pool)
    assert pool.name not in page(client)


def test_a_verdict_is_a_key_on_its_button(client: Client, pool: Pool) -> None:
    make_pool_item(pool=pool)
    buttons = re.findall(r'<button class="btn" name="verdict" value="(\w+)" aria-keyshortcuts="(\w)">', page(client))
    assert buttons == [("toxic", "T"), ("normal", "N"), ("cant_tell", "U")]


def test_the_first_text_is_current_and_every_row_can_hold_the_focus(client: Client, pool: Pool) -> None:
    first, second = make_pool_item(pool=pool), make_pool_item(pool=pool)
    markup = page(client)
    assert f'id="pooled-{first.public_id}" tabindex="-1" aria-current="true" data-todo' in markup
    assert f'id="pooled-{second.public_id}" tabindex="-1" data-todo' in markup
    assert "data-after-last" in markup  # where the focus goes after the last of them


def test_a_verdict_is_saved_and_the_row_offers_to_take_it_back(pool: Pool, post: Callable[..., HttpResponse]) -> None:
    pooled = make_pool_item(pool=pool)
    make_pool_item(pool=pool)
    response = post("judge-pooled", pooled.public_id, verdict="normal", duration_ms="900")
    markup = response.content.decode()
    judgment = Judgment.objects.get()
    assert response.status_code == 200
    assert 'data-verdict="normal" data-done' in markup
    assert "<b>1 of 2</b> judged" in markup
    assert "Text 1 normal. 1 to judge." in markup
    assert markup.count(reverse("audit:undo-pooled", args=[judgment.public_id])) >= 2  # in the row and in the toast
    for part in ("results-heading", "progress", "toasts", "live"):
        assert f'id="{part}" hx-swap-oob' in markup
    assert judgment.duration_ms == 900


def test_what_is_judged_is_not_listed_again(client: Client, pool: Pool, post: Callable[..., HttpResponse]) -> None:
    pooled = make_pool_item("only once", pool=pool)
    post("judge-pooled", pooled.public_id, verdict="cant_tell")
    markup = page(client)
    assert "only once" not in markup
    assert "Every text that was asked for is judged." in markup


def test_without_script_a_verdict_leads_to_the_next_texts(pool: Pool, post: Callable[..., HttpResponse]) -> None:
    response = post("judge-pooled", make_pool_item(pool=pool).public_id, htmx=False, verdict="normal")
    assert (response.status_code, response["Location"]) == (303, reverse("audit:pool"))


def test_without_script_a_text_has_a_page_with_its_policy(client: Client, pool: Pool) -> None:
    make_pool_item("another text", pool=pool)
    version = make_policy_version(toxic="It sells the very thing.")
    pooled = make_pool_item("the text in question", pool=pool, policy_version=version)
    markup = client.get(reverse("audit:pool-item", args=[pooled.public_id])).content.decode()
    assert "It sells the very thing." in markup
    assert "another text" not in markup
    assert 'value="toxic"' in markup


def test_the_detail_is_a_fragment_with_the_wording_that_the_pool_names(client: Client) -> None:
    pooled = make_pool_item()
    make_policy_version(policy=pooled.policy_version.policy, toxic="A newer wording.")
    response = client.get(reverse("audit:pool-item", args=[pooled.public_id]), headers=HTMX)
    markup = response.content.decode()
    assert "<html" not in markup
    assert "It offers the thing." in markup
    assert "A newer wording." not in markup


def test_a_lost_race_shows_the_other_verdict(
    pool: Pool, second_auditor: User, post: Callable[..., HttpResponse]
) -> None:
    pooled = make_pool_item(pool=pool)
    make_judgment(pool_item=pooled, user=second_auditor, verdict="normal")
    response = post("judge-pooled", pooled.public_id, verdict="toxic")
    assert response.status_code == 409
    assert "second_auditor judged it normal" in response.content.decode()
    assert 'role="alert"' in response.content.decode()
    assert Judgment.objects.count() == 1


def test_a_lost_race_without_script_is_told_on_the_page(
    pool: Pool, second_auditor: User, post: Callable[..., HttpResponse]
) -> None:
    pooled = make_pool_item(pool=pool)
    make_judgment(pool_item=pooled, user=second_auditor)
    response = post("judge-pooled", pooled.public_id, htmx=False, verdict="toxic")
    assert response.status_code == 409
    assert "This text was judged meanwhile." in response.content.decode()


def test_a_verdict_that_is_none_is_422(pool: Pool, post: Callable[..., HttpResponse]) -> None:
    assert post("judge-pooled", make_pool_item(pool=pool).public_id, verdict="nasty").status_code == 422


def test_a_verdict_can_be_taken_back_and_the_row_is_to_be_judged_again(
    pool: Pool, post: Callable[..., HttpResponse]
) -> None:
    pooled = make_pool_item(pool=pool)
    post("judge-pooled", pooled.public_id, verdict="toxic")
    response = post("undo-pooled", Judgment.objects.get().public_id)
    markup = response.content.decode()
    assert "data-todo" in markup
    assert "data-focus" in markup
    assert "<b>0 of 1</b> judged" in markup
    assert "Text 1 is to be judged again." in markup


def test_another_persons_verdict_cannot_be_taken_back(
    pool: Pool, second_auditor: User, post: Callable[..., HttpResponse]
) -> None:
    judgment = make_judgment(pool_item=make_pool_item(pool=pool), user=second_auditor)
    assert post("undo-pooled", judgment.public_id).status_code == 409


def test_a_judgment_made_elsewhere_is_404_here(post: Callable[..., HttpResponse], auditor: User) -> None:
    assert post("undo-pooled", make_judgment(user=auditor).public_id).status_code == 404


def test_it_can_be_taken_back_from_the_history(client: Client, pool: Pool, post: Callable[..., HttpResponse]) -> None:
    post("judge-pooled", make_pool_item(pool=pool).public_id, verdict="toxic")
    judgment = Judgment.objects.get()
    undo = reverse("audit:undo-pooled", args=[judgment.public_id])
    assert undo in client.get(reverse("audit:history")).content.decode()
    response = client.post(undo, {"key": str(uuid.uuid4()), "from": "history"})
    assert response["Location"] == reverse("audit:history")


def test_texts_of_a_closed_pool_are_not_asked_for(client: Client, pool: Pool) -> None:
    make_pool_item(pool=pool)
    close(pool)
    assert "No text waits to be judged." in page(client)


def test_a_text_that_two_pools_ask_for_is_listed_and_counted_once(client: Client, pool: Pool) -> None:
    item = make_item("asked for twice")
    make_pool_item(pool=pool, item=item)
    make_pool_item(item=item)
    markup = page(client)
    assert markup.count('class="result"') == 1
    assert "<b>0 of 1</b> judged" in markup


def test_an_erased_text_is_left_out(client: Client, pool: Pool) -> None:
    pooled = make_pool_item(pool=pool)
    with maintenance_pass("erasure asked by the author"):
        ItemText.objects.filter(pk=pooled.item_text_id).update(text="")
    assert "No text waits to be judged." in page(client)


def test_a_text_in_dispute_does_not_wait_for_a_third_person(
    client: Client, pool: Pool, second_auditor: User, admin: User
) -> None:
    pooled = make_pool_item(pool=pool)
    make_judgment(pool_item=pooled, user=second_auditor)
    make_judgment(pool_item=pooled, user=admin, verdict="normal")
    assert "Every text that was asked for is judged." in page(client)


def test_a_page_has_so_many_texts_and_a_way_to_the_next(client: Client, pool: Pool) -> None:
    version = make_policy_version()
    for _number in range(settings.PAGE_SIZE + 3):
        make_pool_item(pool=pool, policy_version=version)
    markup = page(client)
    assert markup.count('class="result"') == settings.PAGE_SIZE
    assert f"{settings.PAGE_SIZE + 3} to judge" in markup
    assert "The next texts" in markup


def test_a_longer_page_asks_no_more_queries(client: Client, pool: Pool) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(client)
        return len(captured)

    make_pool_item(pool=pool)
    few = queries()
    for _number in range(9):
        make_pool_item(pool=pool)
    assert queries() == few
