from pathlib import Path
from typing import ClassVar

from tests.clients.real import Built, Project, built, lines, run
from tests.programs import require_program


class Nix:
    """Debian's, for one user, in a store of each checkout's own: what isn't in the cache is built, and then copied to it."""

    name: ClassVar[str] = "Nix"
    profile: ClassVar[str] = "nix"

    def __init__(self, folder: Path) -> None:
        self._build, self._nix = require_program("nix-build"), require_program("nix")

    def version(self) -> str:
        done = run(self._nix, "--version", cwd=Path("/"), environment={"HOME": "/nonexistent"})
        return done.stdout.split()[-1]

    def build(self, folder: Path, home: Path, project: Project, address: str, token: str | None) -> Built:
        (folder / "task.sh").write_text(f"export PATH=/usr/bin:/bin\n{project.task('$out')}")
        (folder / "default.nix").write_text(
            'derivation { name = "a"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ ./task.sh ]; }'
        )
        if token is not None:
            (folder / "netrc").write_text(f"machine 127.0.0.1 login ci password {token}\n")
        paths = [path for path in ("/usr", "/bin", "/lib", "/lib64") if Path(path).exists()]
        if project.pause is not None:
            paths.append(str(project.pause))
        environment = {
            "HOME": str(home),
            "USER": "nobody",
            "NIX_STATE_DIR": str(folder / "state"),
            "NIX_LOG_DIR": str(folder / "log"),
            "NIX_STORE_DIR": "/nix/store",
            "NIX_REMOTE": f"local?root={folder}/root",
            "NIX_CONFIG": "\n".join(
                (
                    f"netrc-file = {folder}/netrc",
                    f"substituters = http://{address}",
                    "experimental-features = nix-command",
                    "sandbox = false",
                    # A store at another root is a root of its own for builders, sandbox or not.
                    f"sandbox-paths = {' '.join(paths)}",
                    "build-users-group =",
                    "require-sigs = false",
                )
            ),
        }
        out = folder / "result"
        done = run(self._build, "--out-link", out, cwd=folder, environment=environment)
        if done.returncode != 0:
            return built(done, out)
        path = done.stdout.split()[-1]
        # Its xz takes a minute for the largest.
        to = f"http://{address}" + ("?compression=none" if project.size > 1_000_000 else "")
        copied = run(self._nix, "copy", "--to", to, path, cwd=folder, environment=environment)
        done.stdout += copied.stdout
        done.returncode = copied.returncode
        return built(done, Path(f"{folder}/root{path}"))

    def told(self, text: str) -> list[str]:
        return lines(text, r"(?i)warning|error:|^copying path .* from|\([a-z_]+\)$")
