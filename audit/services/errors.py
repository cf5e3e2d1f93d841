"""What a verb may refuse, each with a sentence for the person."""


class ServiceError(Exception):
    """A verb was refused. `sentence` says what happened, what is kept and what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Invalid(ServiceError):
    """The input cannot be used (a page answers 422)."""


class Conflict(ServiceError):
    """The state changed meanwhile (a page answers 409 with the present state)."""


class AlreadyRecorded(Conflict):
    """This very request was recorded before: a double click or a resend. Nothing was recorded twice."""


class NotHeld(Conflict):
    """The report is not, or no longer, held by this user."""
