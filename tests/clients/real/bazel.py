import re
from pathlib import Path
from typing import ClassVar

from tests.clients.real import QUICK, Built, Project, built, lines, run
from tests.programs import require_program


class Bazel:
    """Debian's, without the server that it would leave running: each call is a process that ends."""

    name: ClassVar[str] = "Bazel"
    profile: ClassVar[str] = "bazel"

    def __init__(self, folder: Path) -> None:
        self._bazel = require_program("bazel")
        self._installed = folder / "installed"  # what Bazel unpacks of itself

    def version(self) -> str:
        # Debian's says of itself that it has none.
        done = run("dpkg-query", "-Wf", "${Version}", "bazel-bootstrap", cwd=Path("/"), environment={})
        return done.stdout.partition("+")[0]

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        checkout, base = folder / "checkout", folder / "base"
        checkout.mkdir()
        (checkout / "WORKSPACE").write_text("")
        (checkout / "BUILD").write_text('genrule(name = "a", srcs = ["task.sh"], outs = ["out"], cmd = "sh $< $@")')
        (checkout / "task.sh").write_text(project.task('"$1"'))
        header = [] if token is None else [f"--remote_header=Authorization=Bearer {token}"]
        done = run(
            self._bazel,
            *("--batch", f"--output_user_root={self._installed}", f"--output_base={base}"),
            *("--host_jvm_args=-Xmx512m", f"--host_jvm_args={QUICK}"),
            *("build", "--spawn_strategy=local", "--genrule_strategy=local", "--curses=no", "--color=no", "--jobs=2"),
            *(f"--remote_cache=http://{address}", *header, "//:a"),
            cwd=checkout,
            environment={"HOME": str(home), "USER": "nobody"},
        )
        return built(done, checkout / "bazel-bin" / "out")

    def told(self, text: str) -> list[str]:
        """A warning goes on until the next line of another kind."""
        found: list[str] = []
        warned = False
        for line in text.splitlines():
            other = re.match(r"INFO:|Target |Loading|Analyzing|\[|  bazel-bin|\s*$", line) is not None
            warned = re.match(r"WARNING:|ERROR:", line) is not None or (warned and not other)
            if warned or "remote cache hit" in line:
                found.append(line)
        return lines("\n".join(found), ".")
