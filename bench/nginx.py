"""What every nginx here has in common: one worker, nothing written but what the test is about, files in its own directory."""

import os
from pathlib import Path

PROGRAM = "nginx"
FOREVER = 1_000_000_000
"""nginx closes a connection after 1,000 requests by itself; that would be measured as something else."""


def write_config(directory: Path, http: str) -> list[str]:
    """Write `nginx.conf` with `http` as the inside of its http block; returns the command's arguments."""
    user = (
        "user root;" if os.geteuid() == 0 else ""
    )  # started by root, workers become nobody and can't enter our directory
    temp = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"""{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_max_body_size 0;
    keepalive_requests {FOREVER};
    keepalive_timeout 600s;
{temp}
{http}
}}
"""
    )
    return ["-e", "stderr", "-p", str(directory), "-c", str(config)]
