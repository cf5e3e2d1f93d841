"""What the API page says of requests and answers. The checks themselves are those of every import (audit.intake)."""

from rest_framework import serializers

from audit.intake.rows import MAX_REASON, MAX_TEXT


class ItemSchema(serializers.Serializer[object]):
    external_id = serializers.CharField(max_length=200, help_text="Unique on the platform; a whole number is allowed.")
    text = serializers.CharField(max_length=MAX_TEXT)
    created = serializers.DateTimeField(help_text="With an offset from UTC: 2026-05-04T09:30:00+08:00.")
    platform = serializers.CharField(max_length=40, required=False, help_text="Only the platform of the key.")
    author_key = serializers.CharField(max_length=200, required=False)
    url = serializers.URLField(max_length=1_000, required=False)
    language = serializers.CharField(max_length=16, required=False, help_text="Default: found from the text.")


class ComplaintSchema(serializers.Serializer[object]):
    external_id = serializers.CharField(max_length=200, help_text="Unique on the platform; a whole number is allowed.")
    item_external_id = serializers.CharField(max_length=200, help_text="An item that was sent before.")
    policy = serializers.SlugField(max_length=60, help_text="The key of a policy.")
    at = serializers.DateTimeField(help_text="With an offset from UTC: 2026-05-04T09:30:00+08:00.")
    platform = serializers.CharField(max_length=40, required=False, help_text="Only the platform of the key.")
    reporter_key = serializers.CharField(max_length=200, required=False)
    reason = serializers.CharField(max_length=MAX_REASON, required=False)


class ProblemSchema(serializers.Serializer[object]):
    index = serializers.IntegerField(help_text="Place of the row in the list, from 0.")
    reason = serializers.CharField()


class IntakeSchema(serializers.Serializer[object]):
    created = serializers.IntegerField()
    changed = serializers.IntegerField()
    same = serializers.IntegerField(help_text="Rows that were stored before, just so.")
    problems = ProblemSchema(many=True, help_text="Rows that were refused. The others are stored.")


class GoneRequestSchema(serializers.Serializer[object]):
    external_ids = serializers.ListField(child=serializers.CharField(max_length=200), max_length=1_000)


class GoneSchema(serializers.Serializer[object]):
    gone = serializers.IntegerField(help_text="Items that are gone since this call.")
    unknown = serializers.ListField(child=serializers.CharField())


class EventSchema(serializers.Serializer[object]):
    sequence = serializers.IntegerField(help_text="The event's place; rises, with gaps where events are another's.")
    id = serializers.UUIDField(help_text="The same in feed and webhook: by it a repetition is known.")
    kind = serializers.ChoiceField(choices=["verdict", "removed", "reinstated"])
    platform = serializers.CharField()
    external_id = serializers.CharField(help_text="The item.")
    at = serializers.DateTimeField()
    verdict = serializers.ChoiceField(
        choices=["toxic", "normal", "cant_tell", "disputed", "none"],
        required=False,
        help_text="The standing verdict; `none` where it was taken back, `disputed` where two people disagree.",
    )
    policy = serializers.CharField(required=False)
    policy_version = serializers.IntegerField(required=False)
    judgment = serializers.UUIDField(required=False)
    text_hash = serializers.CharField(required=False, help_text="SHA-256 of the text that was judged.")
    reason = serializers.CharField(required=False)


class FeedSchema(serializers.Serializer[object]):
    events = EventSchema(many=True)
    next = serializers.IntegerField(help_text="The cursor of the next call: `after`.")
    more = serializers.BooleanField(help_text="Whether more events wait already.")


class ErrorSchema(serializers.Serializer[object]):
    detail = serializers.CharField()
