from functools import partial

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
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


async def introspect(url, token):
    import treq  # not above: every twistd command imports this file

    answer = await treq.post(url, data={"token": token}, timeout=10)
    return await answer.json()


@implementer(ICheckerFactory, IPlugin)
class TokenCheckerFactory:
    authType = "token"
    authHelp = "Asks an OAuth 2.0 introspection endpoint (RFC 7662)."
    argStringFormat = "the endpoint's URL"
    credentialInterfaces = (IBearerToken,)

    def generateChecker(self, argument):
        return TokenChecker(partial(introspect, argument))


factory = TokenCheckerFactory()
