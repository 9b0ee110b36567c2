from tests.clients.real import Client
from tests.clients.real.bazel import Bazel
from tests.clients.real.compilers import Ccache, Sccache
from tests.clients.real.gradle import Gradle
from tests.clients.real.nix import Nix
from tests.clients.real.nx import Nx
from tests.clients.real.turborepo import Turborepo

CLIENTS: tuple[type[Client], ...] = (Nx, Turborepo, Bazel, Gradle, Nix, Ccache, Sccache)
