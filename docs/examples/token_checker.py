from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsvc.credentials import IBearerToken, INonBlockingChecker


@implementer(INonBlockingChecker)
class TokenChecker:
    credentialInterfaces = (IBearerToken,)

    def __init__(self, introspect):
        self._introspect = introspect

    def requestAvatarId(self, credentials):
        return Deferred.fromCoroutine(self._user(credentials.token))

    async def _user(self, token):
        claims = await self._introspect(token)
        if not claims.get("active"):
            raise UnauthorizedLogin
        return claims["email"].encode()
