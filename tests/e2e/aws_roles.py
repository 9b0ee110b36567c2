"""What AWS would have beside a workload: an agent of pod identity, and a token service for web identity."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs


class Roles:
    """`keys`: access key id, secret, session token, and for how many seconds they are good. `asked`: the credential of each request."""

    def __init__(self) -> None:
        self.keys = ("", "", "", 3600.0)
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # pod identity, and a container's role
                outer.asked.append(self.headers.get("Authorization", ""))
                access_key, secret, token, _ = outer.keys
                self._say(
                    json.dumps(
                        {
                            "AccessKeyId": access_key,
                            "SecretAccessKey": secret,
                            "Token": token,
                            "Expiration": outer.expiry(),
                        }
                    )
                )

            def do_POST(self) -> None:  # AssumeRoleWithWebIdentity
                asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.asked.append(asked["WebIdentityToken"][0])
                access_key, secret, token, _ = outer.keys
                self._say(
                    '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                    f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access_key}</AccessKeyId>"
                    f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
                    f"<Expiration>{outer.expiry()}</Expiration></Credentials>"
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

    def expiry(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.keys[3]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
