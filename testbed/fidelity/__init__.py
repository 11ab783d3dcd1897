"""Whether a run may be believed; what is judged, and how, is in docs/fidelity.md. Pure."""

from testbed.fidelity.verdict import Fidelity, assess

__all__ = ["Fidelity", "assess"]
