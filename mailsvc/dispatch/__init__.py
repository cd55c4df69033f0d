"""Dispatch: claims the deliveries that are due, hands them over, records what became of them."""

from mailsvc.dispatch.destination import Destination, QueueState, Verdict
from mailsvc.dispatch.dispatcher import Dispatcher

__all__ = ["Destination", "Dispatcher", "QueueState", "Verdict"]
