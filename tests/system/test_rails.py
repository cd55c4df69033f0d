"""A real Action Mailbox takes what mailsvc sends, by each ingress that it has a format for."""

from __future__ import annotations

import base64
import json
import os
import smtplib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system import mails
from tests.system.configurations import listener
from tests.system.harness import SystemTestCase, Timeout, until

#: A whole application: it keeps what each mail is once Rails has read it.
APPLICATION = """\
require "action_controller/railtie"
require "active_record/railtie"
require "active_job/railtie"
require "active_storage/engine"
require "action_mailbox/engine"
require "rack/handler/webrick"

ENV["DATABASE_URL"] = "sqlite3:#{__dir__}/database"

class Application < Rails::Application
  config.root = __dir__
  config.load_defaults 6.1
  config.eager_load = false
  config.secret_key_base = "0" * 64
  config.hosts.clear
  config.logger = Logger.new($stderr)
  config.active_job.queue_adapter = :inline
  config.active_storage.service = :local
  config.active_storage.service_configurations = {
    local: { service: "Disk", root: "#{__dir__}/blobs" }
  }
  config.action_mailbox.incinerate = false
  config.action_mailbox.ingress = ENV.fetch("INGRESS").to_sym
end
Application.initialize!

ActiveRecord::Migration.verbose = false
engines = [ActiveStorage::Engine, ActionMailbox::Engine]
folders = engines.map { |engine| "#{engine.root}/db/migrate" }
ActiveRecord::MigrationContext.new(folders, ActiveRecord::SchemaMigration).migrate

class ApplicationMailbox < ActionMailbox::Base
  routing all: :kept
end

class KeptMailbox < ApplicationMailbox
  def process
    parts = mail.multipart? ? mail.all_parts.reject(&:multipart?) : [mail]
    files, shown = parts.partition(&:attachment?)
    texts = shown.select { |part| part.mime_type.start_with?("text/") }
    kept = {
      recipients: mail.recipients,
      subject: mail.subject,
      text: texts.map(&:decoded).join,
      files: files.to_h { |file| [file.filename, [file.decoded].pack("m0")] },
    }
    File.write("#{__dir__}/part", JSON.generate(kept))
    File.rename("#{__dir__}/part", "#{__dir__}/#{mail.message_id}.json")
  end
end

Rack::Handler::WEBrick.run(Application, Host: "127.0.0.1", Port: 0, AccessLog: []) do |server|
  $stdout.puts server.listeners[0].addr[1]
  $stdout.flush
end
"""

PASSWORD = "correct horse"
SIGNING_KEY = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"

#: Ingress to its path and to the options of the destination.
INGRESSES = {
    "relay": ("relay/inbound_emails", 'format = "rails"'),
    "postmark": ("postmark/inbound_emails", 'format = "postmark"\ninclude_raw = true'),
    "sendgrid": ("sendgrid/inbound_emails", 'format = "sendgrid"\ninclude_raw = true'),
    "mailgun": ("mailgun/inbound_emails/mime", 'format = "mailgun"'),
}

LATIN = (
    b"From: ann@sender.example\r\nTo: bob@example.com\r\nSubject: latin\r\n"
    b"Message-ID: <latin@sender.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\nGr\xfc\xdfe aus Z\xfcrich\r\n"
)


@pytest.mark.proof
class RailsTests(SystemTestCase):
    """SMTP in, an application's mailbox out."""

    @pytest.mark.needs("ruby")
    def test_each_ingress(self) -> None:
        self.require_rails()
        self.write("password", PASSWORD)
        self.write("key", SIGNING_KEY)
        text = f'hostname = "mx.example.com"\nspool = "{self.directory}/spool"\n{listener()}'
        for ingress, (path, options) in INGRESSES.items():
            port = self.application(ingress)
            secret = "secret_file" if ingress == "mailgun" else "password_file"
            file = self.directory / ("key" if ingress == "mailgun" else "password")
            text += (
                f'[destination.{ingress}]\nkind = "webhook"\nallow_private = true\n{options}\n'
                f'url = "http://127.0.0.1:{port}/rails/action_mailbox/{path}"\n'
                f'{secret} = "{file}"\n'
                f'[[route]]\nto = "{ingress}@example.com"\ndeliver = "{ingress}"\n'
            )
        server = self.configured(text)
        given = b"Message-ID: <multipart@sender.example>\r\n" + mails.multipart()
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            for ingress in INGRESSES:
                for octets in (given, LATIN):
                    client.sendmail(
                        "ann@sender.example", f"{ingress}@example.com", octets, ["BODY=8BITMIME"]
                    )
        for ingress in INGRESSES:
            self.assert_kept(ingress)

    def assert_kept(self, ingress: str) -> None:
        latin = self.kept(ingress, "latin")
        self.assertEqual(latin["text"].strip(), "Grüße aus Zürich")
        multipart = self.kept(ingress, "multipart")
        self.assertEqual(multipart["subject"], "Rechnung für Müller, 請求書")
        self.assertIn("..zwei Punkte", multipart["text"])
        files = {name: base64.b64decode(octets) for name, octets in multipart["files"].items()}
        self.assertEqual(len(files["Größe.pdf"]), 70_000)
        self.assertEqual(files["table.csv"].split(), [b"a;b", b"1;2"])
        for mail in (latin, multipart):
            self.assertIn("bob@example.com", mail["recipients"])
            if ingress != "postmark":
                # Rails 6.1 does not read Postmark's OriginalRecipient; 7.0 does.
                self.assertIn(f"{ingress}@example.com", mail["recipients"])

    def kept(self, ingress: str, message_id: str) -> dict[str, Any]:
        path = self.directory / ingress / f"{message_id}@sender.example.json"
        try:
            until(path.exists, f"{ingress} to keep {message_id}")
        except Timeout as timeout:
            errors = (path.parent / "errors").read_text("utf-8", "replace")
            raise Timeout(f"{timeout}; it says:\n{errors[-5000:]}") from None
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return kept

    def application(self, ingress: str) -> int:
        """Run the application with one ingress; return its port."""
        folder = self.directory / ingress
        folder.mkdir()
        program = folder / "application.rb"
        program.write_text(APPLICATION, "utf-8")
        environment = {
            "INGRESS": ingress,
            "RAILS_ENV": "production",
            "RAILS_INBOUND_EMAIL_PASSWORD": PASSWORD,
            "MAILGUN_INGRESS_SIGNING_KEY": SIGNING_KEY,
            # Without it Ruby reads its own program as ASCII where no locale is set.
            "LANG": "C.UTF-8",
        }
        with Path(folder / "errors").open("wb") as errors:
            process = subprocess.Popen(
                ["ruby", str(program)],
                cwd=folder,
                env=os.environ | environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        line = process.stdout.readline()
        self.assertTrue(line, f"{ingress}: {(folder / 'errors').read_text('utf-8', 'replace')}")
        return int(line)

    def require_rails(self) -> None:
        wanted = "%w[rails action_mailbox/engine sqlite3 webrick].each { |name| require name }"
        found = subprocess.run(["ruby", "-e", wanted], capture_output=True, check=False)
        if found.returncode and not os.environ.get("CI"):
            pytest.skip("needs Action Mailbox (Debian: ruby-actionmailbox ruby-sqlite3)")
        self.assertEqual(found.returncode, 0, found.stderr)
