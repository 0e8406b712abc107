"""Why an admin call isn't done."""


class CallRefusedError(Exception):
    """The call can't be done; the message tells the operator why and what to do."""

    def __init__(self, status: int, outcome: str, message: str) -> None:
        """`status` is the HTTP status, `outcome` the audit line's word for it."""
        super().__init__(message)
        self.status = status
        self.outcome = outcome


def not_found(message: str) -> CallRefusedError:
    """Return the error for what doesn't exist."""
    return CallRefusedError(404, "not_found", message)


def bad_request(message: str) -> CallRefusedError:
    """Return the error for a call that makes no sense."""
    return CallRefusedError(400, "bad_request", message)
