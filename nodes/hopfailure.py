"""Why a hop cannot do its work: what the phone is told."""


class HopFailed(Exception):
    """`code` is one of the errors of requests (docs/journal.md)."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code
