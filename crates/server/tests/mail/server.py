"""A mail server for tests: aiosmtpd, as it is asked by its arguments. Each mail it takes is a line of JSON on stdout,
and so is the port it listens on. It ends with its stdin.

    server.py tls|starttls|plain [--cert FILE --key FILE] [--user NAME --password WORD]
              [--refuse 550|451] [--refuse-to ADDRESS] [--slow SECONDS] [--port PORT]
"""

import argparse
import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

asked = argparse.ArgumentParser()
asked.add_argument("security", choices=["tls", "starttls", "plain"])
for name in ["cert", "key", "user", "password", "refuse", "refuse-to"]:
    asked.add_argument(f"--{name}")
asked.add_argument("--slow", type=float, default=0)
asked.add_argument("--port", type=int, default=0)
asked = asked.parse_args()


def say(**what):
    print(json.dumps(what), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if asked.refuse_to == address:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(asked.slow)
        if asked.refuse:
            say(refused=asked.refuse)
            return f"{asked.refuse} not now"
        data = envelope.original_content.decode("utf-8", "surrogateescape")
        say(sender=envelope.mail_from, to=envelope.rcpt_tos, data=data,
            tls=asked.security == "tls" or session.ssl is not None,
            user=session.auth_data.login.decode() if session.authenticated else None)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    right = data.login == asked.user.encode() and data.password == asked.password.encode()
    return AuthResult(success=right, auth_data=data, handled=False)


async def main():
    context = None
    if asked.security != "plain":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(asked.cert, asked.key)
    starttls = asked.security == "starttls"
    options = dict(hostname="mail.test", enable_SMTPUTF8=False, data_size_limit=1 << 20)
    if starttls:
        options |= dict(tls_context=context, require_starttls=True)
    if asked.user:
        options |= dict(authenticator=authenticate, auth_required=True, auth_require_tls=starttls)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Handler(), loop=loop, **options), "127.0.0.1", asked.port,
        ssl=context if asked.security == "tls" else None)
    say(port=server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
