"""What this machine cannot do, as an error that names it: raised before anything is started."""


class MachineLacks(Exception):
    """The run needs what is not here; `missing` names each thing and how to get it."""

    def __init__(self, *missing: str) -> None:
        super().__init__("; ".join(missing))
        self.missing = missing
