from twisted.trial.unittest import TestCase

from mailsvc.deliverers.discard import Discard
from mailsvc.interfaces import IDeliverer
from mailsvc.testing import GroupDelivererContract


class ContractTests(GroupDelivererContract, TestCase):
    reads_content = False

    def make_deliverer(self) -> IDeliverer:
        return Discard()
