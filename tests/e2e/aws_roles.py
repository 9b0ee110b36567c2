"""What AWS would have beside a workload: an agent of pod identity, a token service for web identity, an instance's metadata."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

_ROLES = "/latest/meta-data/iam/security-credentials/"
_SESSION = "metadata-session"


def expiry(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


class Roles:
    """`keys`: access key id, secret, session token, and for how many seconds they are good. `asked`: the credential of each request."""

    def __init__(self) -> None:
        self.keys = ("", "", "", 3600.0)
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:  # an instance's metadata, version 2: a session first
                assert self.path == "/latest/api/token"
                assert 0 < int(self.headers["x-aws-ec2-metadata-token-ttl-seconds"]) <= 21600
                self._say(_SESSION)

            def do_GET(self) -> None:  # pod identity, a container's role, an instance's
                by = self.headers.get("Authorization") or self.headers.get("x-aws-ec2-metadata-token", "")
                outer.asked.append(by)
                if self.path.startswith("/latest/") and by != _SESSION:
                    self.send_error(401)  # as where HttpTokens is `required`
                    return
                if self.path == _ROLES:
                    self._say("sidecar-role")
                    return
                access_key, secret, token, seconds = outer.keys
                self._say(
                    json.dumps(
                        {
                            "Code": "Success",
                            "AccessKeyId": access_key,
                            "SecretAccessKey": secret,
                            "Token": token,
                            "Expiration": expiry(seconds),
                        }
                    )
                )

            def do_POST(self) -> None:  # AssumeRoleWithWebIdentity
                asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.asked.append(asked["WebIdentityToken"][0])
                access_key, secret, token, seconds = outer.keys
                self._say(
                    '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                    f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key}</AccessKeyId>"
                    f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
                    f"<Expiration>{expiry(seconds)}</Expiration></Credentials>"
                    "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
                )

            def _say(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Nothing to the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
