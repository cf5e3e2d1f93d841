"""Webhooks against a real server that answers, refuses, hangs and comes back."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import urllib3
from django.utils import timezone

from audit import outbox
from audit.models import Item, WebhookDelivery, WebhookEndpoint
from audit.outbox import webhooks
from tests.factories import make_item

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class Receiver:
    """A platform's server. `answer` maps a message to a status; a negative one means: hang for so many seconds."""

    answer: Callable[[dict[str, Any]], float] = lambda event: 204
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    def items(self) -> list[str]:
        return [message["data"]["external_id"] for message in self.got]

    def orders(self) -> list[int]:
        return [message["data"]["order"] for message in self.got]


def serve(receiver: Receiver) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            message = json.loads(body)
            receiver.bodies.append(body)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            receiver.got.append(message)
            status = receiver.answer(message["data"])
            if status < 0:
                time.sleep(-status)
                return
            self.send_response(int(status))
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    server = serve(receiver)
    yield receiver
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(webhooks, "READ_TIMEOUT_S", 0.3)


def make_endpoint(url: str, **kwargs: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(**({"url": url, "platform": "forum", "secret": "s3cret"} | kwargs))


def publish(item: Item | None = None, *, order: int = 0) -> None:
    item = item or make_item(platform="forum")
    outbox.emit(item=item, kind="verdict", payload={"order": order}, at=NOW)
    outbox.publish()


def make_due() -> None:
    """As if every wait were over."""
    WebhookDelivery.objects.update(next_attempt=timezone.now() - timedelta(seconds=1))


def test_an_event_is_delivered_once(receiver: Receiver) -> None:
    make_endpoint(receiver.url)
    publish()
    assert outbox.deliver() == 1
    assert outbox.deliver() == 0
    delivery = WebhookDelivery.objects.get()
    assert len(receiver.got) == 1
    assert delivery.delivered is not None
    assert (delivery.attempts, delivery.last_answer) == (1, "Answered 204.")


def test_the_receiver_can_check_the_signature(receiver: Receiver) -> None:
    key = b"thirty-two bytes of a shared key"
    make_endpoint(receiver.url, secret="whsec_" + base64.b64encode(key).decode())
    publish()
    outbox.deliver()
    (headers,), (body,) = receiver.headers, receiver.bodies
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 30
    assert json.loads(body)["type"] == "item.verdict"


def test_a_secret_without_the_prefix_is_taken_as_it_is_written() -> None:
    signature = webhooks.sign("s3cret", "msg", 1, b"{}")
    expected = hmac.new(b"s3cret", b"msg.1.{}", hashlib.sha256).digest()
    assert signature == "v1," + base64.b64encode(expected).decode()


def test_a_new_secret_has_256_bits() -> None:
    secret = outbox.new_secret()
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret != outbox.new_secret()


def test_a_repetition_carries_the_same_id(receiver: Receiver) -> None:
    receiver.answer = lambda event: 500
    make_endpoint(receiver.url)
    publish()
    outbox.deliver()
    make_due()
    outbox.deliver()
    assert len({headers["webhook-id"] for headers in receiver.headers}) == 1
    assert len(receiver.headers) == 2


def test_a_refused_event_waits_longer_each_time(receiver: Receiver) -> None:
    receiver.answer = lambda event: 500
    make_endpoint(receiver.url)
    publish()
    outbox.deliver()
    delivery = WebhookDelivery.objects.get()
    wait = (delivery.next_attempt - timezone.now()).total_seconds()
    assert 10 < wait <= 30
    assert delivery.last_answer == "Answered 500."
    assert outbox.deliver() == 0
    assert len(receiver.got) == 1


@pytest.mark.parametrize(("attempts", "longest_s"), [(1, 30), (2, 60), (5, 480), (10, 15_360), (15, 21_600)])
def test_waits_double_up_to_six_hours_with_a_share_of_chance(attempts: int, longest_s: int) -> None:
    waits = {webhooks.backoff(attempts) for _ in range(50)}
    assert len(waits) > 1
    assert all(timedelta(seconds=longest_s / 2) <= wait <= timedelta(seconds=longest_s) for wait in waits)


def test_a_receiver_that_recovers_gets_everything_in_order(receiver: Receiver) -> None:
    item = make_item(platform="forum")
    make_endpoint(receiver.url)
    receiver.answer = lambda event: 503
    for order in range(3):
        publish(item, order=order)
    outbox.deliver()
    receiver.answer = lambda event: 200
    make_due()
    assert outbox.deliver() == 3
    assert receiver.orders() == [0, 0, 1, 2]


def test_a_failing_event_holds_back_only_its_own_item(receiver: Receiver) -> None:
    stuck, free = make_item(platform="forum", external_id="stuck"), make_item(platform="forum", external_id="free")
    receiver.answer = lambda event: 500 if event["external_id"] == "stuck" else 200
    make_endpoint(receiver.url)
    for order in range(2):
        publish(stuck, order=order)
        publish(free, order=order)
    assert outbox.deliver() == 2
    assert receiver.items() == ["stuck", "free", "free"]


def test_a_receiver_that_hangs_delays_no_other(receiver: Receiver) -> None:
    hanging = Receiver(answer=lambda event: -5)
    server = serve(hanging)
    make_endpoint(hanging.url)
    make_endpoint(receiver.url)
    for _ in range(20):
        publish()
    began = time.monotonic()
    assert outbox.deliver() == 20
    assert time.monotonic() - began < 4
    assert len(hanging.got) == webhooks.MISSES
    server.shutdown()
    server.server_close()


def test_a_receiver_that_hangs_is_noted_and_tried_again(receiver: Receiver) -> None:
    receiver.answer = lambda event: -2
    make_endpoint(receiver.url)
    publish()
    outbox.deliver()
    assert WebhookDelivery.objects.get().last_answer == "No answer in time."
    receiver.answer = lambda event: 200
    make_due()
    assert outbox.deliver() == 1


def test_a_dead_receiver_ends_its_turn_after_three_misses() -> None:
    make_endpoint("http://127.0.0.1:9/hook")
    for _ in range(10):
        publish()
    assert outbox.deliver() == 0
    assert WebhookDelivery.objects.filter(attempts=1).count() == webhooks.MISSES
    assert "Refused" in WebhookDelivery.objects.filter(attempts=1)[0].last_answer


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answer = lambda event: 302
    make_endpoint(receiver.url)
    publish()
    assert outbox.deliver() == 0
    assert WebhookDelivery.objects.get().last_answer == "Answered 302."


def test_an_event_is_given_up_after_the_last_attempt_and_the_next_one_goes(receiver: Receiver) -> None:
    item = make_item(platform="forum")
    receiver.answer = lambda event: 400 if event["order"] == 0 else 200
    make_endpoint(receiver.url)
    publish(item, order=0)
    publish(item, order=1)
    for _ in range(webhooks.MAX_ATTEMPTS):
        make_due()
        outbox.deliver()
    first, second = WebhookDelivery.objects.order_by("publication")
    assert (first.given_up is not None, first.attempts) == (True, webhooks.MAX_ATTEMPTS)
    assert second.delivered is not None


def test_a_delivery_that_somebody_else_took_is_passed_over(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url)
    item = make_item(platform="forum")
    publish(item, order=0)
    publish(item, order=1)
    outbox.deliver(turn_s=-1)
    WebhookDelivery.objects.update(delivered=None, attempts=0)
    make_due()
    taken = webhooks.claim_next(endpoint)
    assert taken is not None
    assert webhooks.claim_next(endpoint) is None


def test_an_answer_that_comes_after_the_lease_changes_nothing(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url)
    publish()
    webhooks._prepare(endpoint)
    late = webhooks.claim_next(endpoint)
    assert late is not None
    make_due()
    assert outbox.deliver() == 1
    webhooks.record(late, webhooks.Answer(ok=False, reached=True, text="Answered 500."))
    assert WebhookDelivery.objects.get().last_answer == "Answered 204."


def test_another_platform_s_events_are_not_sent(receiver: Receiver) -> None:
    make_endpoint(receiver.url, platform="chat")
    publish()
    assert outbox.deliver() == 0
    assert WebhookEndpoint.objects.get().position == 1


def test_an_endpoint_that_is_switched_off_gets_nothing_until_it_is_on_again(receiver: Receiver) -> None:
    endpoint = make_endpoint(receiver.url, is_active=False)
    publish()
    assert outbox.deliver() == 0
    endpoint.is_active = True
    endpoint.save()
    assert outbox.deliver() == 1


def test_a_bad_address_is_an_answer_and_no_crash() -> None:
    answer = webhooks.send(urllib3.PoolManager(retries=False), "http://[broken", b"{}", {})
    assert (answer.ok, answer.reached) == (False, False)
