"""What goes wrong."""


class CorewireError(Exception):
    """A request, a token or a subscription that failed.

    `code` is for programs. It is one of the server's (`docs/WIRE.md`), or one of the client's own:

    - `timeout`: there was no answer in time; a publication may have been accepted all the same
    - `connection_lost`: the connection ended before the answer came; a publication may have been accepted all the same
    - `not_sent`: nothing was sent, because the client is closed or too much waits already
    - `token_function`: the application's token function failed
    - `bad_message`: the server said something that is no message of `corewire.v1`
    - `closed`: the server does not want this client
    - `unsubscribed`: the application ended the subscription itself
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        #: When to try again, in seconds, if the server said so.
        self.retry_after = retry_after

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.code in _TEMPORARY

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"


_TEMPORARY = {"rate_limited", "unavailable", "internal", "timeout", "connection_lost"}
