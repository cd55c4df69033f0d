import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook


class Inbound(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        mail = Webhook(sys.argv[1]).verify(body, dict(self.headers))  # raises if it is not ours
        print(mail["subject"], mail["text"], sep="\n", flush=True)
        self.send_response(204)  # from here on this program answers for the mail
        self.end_headers()


HTTPServer(("127.0.0.1", 3000), Inbound).serve_forever()
