import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook


class Inbound(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # verify() raises where the signature is not right: no answer, and the mail is kept.
        print(Webhook(sys.argv[1]).verify(body, dict(self.headers))["subject"], flush=True)
        self.send_response(204)  # From here on this program answers for the mail.
        self.end_headers()


HTTPServer(("127.0.0.1", 3000), Inbound).serve_forever()
