"""Push events to the platform's own addresses: signed, retried, at least once, in order for each item.

An event that fails holds back only the later events of the same item. Each address has at most one request on its way,
in a thread of its own, so one that hangs delays no other; where it cannot be reached three times running, its turn ends
until the next one. Signatures follow the Standard Webhooks layout.
"""

import base64
import binascii
import hmac
import http.client
import json
import logging
import random
import secrets
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import urllib3
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import OutboxPublication, WebhookDelivery, WebhookEndpoint
from audit.outbox.events import event_as_dict

MAX_ATTEMPTS = 16
FIRST_WAIT_S = 30
LONGEST_WAIT_S = 6 * 3600
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
LEASE = timedelta(seconds=60)
TURN_S = 45.0
MISSES = 3
MAX_ENDPOINTS_AT_ONCE = 16
PREPARE_CHUNK = 1_000
SECRET_PREFIX = "whsec_"  # noqa: S105  (the prefix that the Standard Webhooks layout gives to secrets)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What came of one attempt. `reached` is false where nobody answered at all."""

    ok: bool
    reached: bool
    text: str


def new_secret() -> str:
    """A secret for an endpoint, as the Standard Webhooks layout writes it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def deliver(*, turn_s: float = TURN_S) -> int:
    """Send what is due to every active endpoint, for at most `turn_s` seconds; how many were delivered."""
    endpoints = list(WebhookEndpoint.objects.filter(is_active=True).order_by("pk"))
    for endpoint in endpoints:
        _prepare(endpoint)
    if not endpoints:
        return 0
    with ThreadPoolExecutor(min(len(endpoints), MAX_ENDPOINTS_AT_ONCE)) as pool:
        return _Turn(pool, time.monotonic() + turn_s).run(endpoints)


class _Turn:
    """One pass over the endpoints. Threads only send; every row is read and written by the calling thread."""

    def __init__(self, pool: ThreadPoolExecutor, ends: float) -> None:
        self._pool = pool
        self._ends = ends
        self._flying: dict[Future[Answer], WebhookDelivery] = {}
        self._misses: Counter[int] = Counter()
        self._http = urllib3.PoolManager(
            num_pools=MAX_ENDPOINTS_AT_ONCE,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
        )

    def run(self, endpoints: list[WebhookEndpoint]) -> int:
        delivered = 0
        for endpoint in endpoints:
            self._launch(endpoint)
        while self._flying:
            for future in wait(self._flying, return_when=FIRST_COMPLETED).done:
                delivery, answer = self._flying.pop(future), future.result()
                record(delivery, answer)
                delivered += answer.ok
                if self._goes_on(delivery.endpoint, answer):
                    self._launch(delivery.endpoint)
        return delivered

    def _goes_on(self, endpoint: WebhookEndpoint, answer: Answer) -> bool:
        self._misses[endpoint.pk] = 0 if answer.reached else self._misses[endpoint.pk] + 1
        return self._misses[endpoint.pk] < MISSES and time.monotonic() < self._ends

    def _launch(self, endpoint: WebhookEndpoint) -> None:
        delivery = claim_next(endpoint)
        if delivery is not None:
            message = message_of(delivery)
            self._flying[self._pool.submit(send, self._http, endpoint.url, *message)] = delivery


# --- rows -----------------------------------------------------------------------------------------------------------


def _prepare(endpoint: WebhookEndpoint) -> None:
    """Write the delivery rows of the publications that the endpoint does not have yet."""
    while True:
        with transaction.atomic():
            endpoint = WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)
            publications = list(
                OutboxPublication.objects.filter(sequence__gt=endpoint.position)
                .select_related("event__item")
                .order_by("sequence")[:PREPARE_CHUNK]
            )
            if not publications:
                return
            WebhookDelivery.objects.bulk_create(
                (
                    WebhookDelivery(endpoint=endpoint, publication=publication, item=publication.event.item)
                    for publication in publications
                    if publication.event.item.platform == endpoint.platform
                ),
                ignore_conflicts=True,
            )
            WebhookEndpoint.objects.filter(pk=endpoint.pk).update(position=publications[-1].sequence)


def claim_next(endpoint: WebhookEndpoint) -> WebhookDelivery | None:
    """Take the first delivery that is due and whose item has no earlier one open; None where none is.

    Taking it moves its next attempt behind a lease: a second sender passes it over, and so the later ones of its item.
    """
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, delivered=None, given_up=None)
    earlier = waiting.filter(item=OuterRef("item"), publication__lt=OuterRef("publication"))
    due = waiting.filter(~Exists(earlier), next_attempt__lte=timezone.now()).order_by("publication")
    for delivery in due.select_related("endpoint", "publication__event__item")[:20]:
        lease = timezone.now() + LEASE
        taken = waiting.filter(pk=delivery.pk, next_attempt=delivery.next_attempt).update(next_attempt=lease)
        if taken:
            delivery.next_attempt = lease
            return delivery
    return None


def record(delivery: WebhookDelivery, answer: Answer) -> None:
    """Write down what came of an attempt: delivered, to be tried again later, or given up after the last one."""
    now, attempts = timezone.now(), delivery.attempts + 1
    changes: dict[str, Any] = {"attempts": attempts, "last_answer": answer.text[:200]}
    if answer.ok:
        changes["delivered"] = now
    elif attempts >= MAX_ATTEMPTS:
        changes["given_up"] = now
        logger.error("Webhook %s: event %s given up: %s", delivery.endpoint_id, delivery.publication_id, answer.text)
    else:
        changes["next_attempt"] = now + backoff(attempts)
    # Whoever took the delivery over after our lease had ended has the word.
    WebhookDelivery.objects.filter(pk=delivery.pk, next_attempt=delivery.next_attempt).update(**changes)


def backoff(attempts: int) -> timedelta:
    """The wait after so many failed attempts: doubling from half a minute to six hours, each with a share of chance."""
    seconds = min(FIRST_WAIT_S * 2 ** (attempts - 1), LONGEST_WAIT_S)
    return timedelta(seconds=seconds * random.uniform(0.5, 1.0))  # noqa: S311  (spreads load, guards nothing)


# --- messages -------------------------------------------------------------------------------------------------------


def message_of(delivery: WebhookDelivery) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one attempt. The id is the event's own: a receiver knows a repetition by it."""
    event = event_as_dict(delivery.publication)
    content = {"type": f"item.{event['kind']}", "timestamp": event["at"], "data": event}
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": "QExplorer",
        "webhook-id": event["id"],
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(delivery.endpoint.secret, event["id"], timestamp, body),
    }
    return body, headers


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature header: "v1," and the base64 of HMAC-SHA256 over "id.timestamp.body"."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key_of(secret), signed, "sha256")).decode()


def _key_of(secret: str) -> bytes:
    """The bytes behind a secret: those after the prefix are base64; any other secret is taken as it is written."""
    if secret.startswith(SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def send(pool: urllib3.PoolManager, url: str, body: bytes, headers: dict[str, str]) -> Answer:
    """POST one message. Any 2xx is a yes; redirects are not followed; the answer's body is not read."""
    try:
        response = pool.request("POST", url, body=body, headers=headers, redirect=False, preload_content=False)
    except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError) as error:
        refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # urllib3 counts it among the timeouts
        return Answer(ok=False, reached=False, text=_("Refused or unknown.") if refused else _("No answer in time."))
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        return Answer(ok=False, reached=False, text=_("Not reached: %(error)s.") % {"error": type(error).__name__})
    status = response.status
    response.close()
    return Answer(ok=200 <= status < 300, reached=True, text=_("Answered %(status)d.") % {"status": status})
