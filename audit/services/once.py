"""Record a request once, however often it arrives."""

import uuid
from datetime import datetime

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.models import RecordedRequest
from audit.services.errors import AlreadyRecorded


def record_request(*, key: uuid.UUID, user: User, action: str, at: datetime | None = None) -> None:
    """Take `key` for this request, inside the caller's transaction.

    Raises AlreadyRecorded where the key was taken. Where the caller's transaction is rolled back, the key is free.
    """
    try:
        with transaction.atomic():
            RecordedRequest.objects.create(key=key, action=action, user=user, at=at or timezone.now())
    except IntegrityError as error:
        raise AlreadyRecorded(_("This step was already recorded. Here is how it stands now.")) from error
