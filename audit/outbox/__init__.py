"""What the platform is to learn of: written with its cause, numbered after commit, then fed and pushed."""

from audit.outbox.events import MAX_FEED, Feed, emit, event_as_dict, feed, publish
from audit.outbox.webhooks import deliver, new_secret

__all__ = ["MAX_FEED", "Feed", "deliver", "emit", "event_as_dict", "feed", "new_secret", "publish"]
