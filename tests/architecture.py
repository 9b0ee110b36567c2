"""Checks the house rules over a source tree, by its imports alone. `test_architecture.py` runs it over the project, and over
small trees with planted breaches.

Layers, low to high; a module imports its own layer or lower. The longest name that fits a module decides its layer.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LAYERS: dict[int, tuple[str, ...]] = {
    0: ("sidecar", "sidecar.reasons", "sidecar.model", "sidecar.errors", "sidecar.ports", "sidecar.settings"),
    1: (
        "sidecar.yaml_tree",
        "sidecar.document",
        "sidecar.measures",
        "sidecar.target",
        "sidecar.headers",
        "sidecar.answers",
        "sidecar.aws_chunked",
        "sidecar.checksums",
        "sidecar.s3",
        "sidecar.sigv4",
        "sidecar.sigv4_verify",
        "sidecar.mapping",
        "sidecar.multistatus",
        "sidecar.narinfo",
        "sidecar.bucket",
        "sidecar.networks",
        "sidecar.proxy_header",
        "sidecar.quotas",
        "sidecar.profiles",
        "sidecar.provenance",
        "sidecar.policy",
    ),
    2: ("sidecar.credentials",),
    3: (
        "sidecar.gate",
        "sidecar.callers",
        "sidecar.decision",
        "sidecar.buckets",
        "sidecar.trees",
        "sidecar.trial",
        "sidecar.tokens",
        "sidecar.biscuits",
        "sidecar.root_keys",
        "sidecar.token_requests",
        "sidecar.revoking",
        "sidecar.settled",
        "sidecar.background",
    ),
    4: (
        "sidecar.store",
        "sidecar.directory",
        "sidecar.upstream",
        "sidecar.audit",
        "sidecar.jwks",
        "sidecar.metrics",
        "sidecar.policy.source",
        "sidecar.policy.passwords",
    ),
    5: ("sidecar.server", "sidecar.listening"),
    6: (
        "sidecar.config",
        "sidecar.news",
        "sidecar.readings",
        "sidecar.wiring",
        "sidecar.wiring_audit",
        "sidecar.wiring_access_keys",
        "sidecar.wiring_listeners",
        "sidecar.wiring_verifiers",
        "sidecar.workers",
        "sidecar.logs",
        "sidecar.signals",
    ),
    7: ("sidecar.cli", "sidecar.serving", "sidecar.__main__"),
}
PURE, SEPARATE = (0, 1), 4
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

REACHING_OUT = frozenset(
    [
        "aiohttp",
        "aiosqlite",
        "asyncio",
        "concurrent",
        "fcntl",
        "http.client",
        "httptools",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlalchemy",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uuid",
        "uvloop",
    ]
)
"""What a pure module (layers 0 and 1) must not import: I/O, clocks, randomness, logging, concurrency."""
TYPE_ONLY = {"sidecar.settings": {"pathlib"}}
"""A setting is a path; what is done with it is done elsewhere."""
REACHING_CALLS = frozenset(
    {"open", "print", "input", "now", "utcnow", "today", "read_text", "read_bytes", "write_text", "exists", "stat"}
)

VALUES = frozenset({"Struct", "Enum", "IntEnum", "StrEnum", "IntFlag", "NamedTuple", "Protocol"})

WIRING = ("sidecar.wiring", "sidecar.cli")
"""Who may make objects of layer 4. Everybody else is handed them, and knows them by their ports."""


class Module:
    """One file: its name, its syntax, what it imports of the project and of others."""

    def __init__(self, name: str, tree: ast.Module, names: set[str]) -> None:
        self.name = name
        self.tree = tree
        self.imports: list[tuple[int, str]] = []
        """Line and module."""
        self.names: list[tuple[int, str, str, str]] = []
        """Line, module, the name taken from it, and how it is called here."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports += [(node.lineno, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                for alias in node.names:
                    is_module = f"{source}.{alias.name}" in names
                    self.imports.append((node.lineno, f"{source}.{alias.name}" if is_module else source))
                    if not is_module:
                        self.names.append((node.lineno, source, alias.name, alias.asname or alias.name))


def layer(module: str) -> int | None:
    found = _home(module)
    return None if found is None else LAYER_OF[found]


def _home(module: str) -> str | None:
    """The entry of the layer table that a module falls under; the project's root stands for itself alone."""
    name = module
    while name not in LAYER_OF or (name == "sidecar" and module != "sidecar"):
        name = name.rpartition(".")[0]
        if not name:
            return None
    return name


def read(root: Path) -> list[Module]:
    """All modules of the package `root` (its folder's name is the package's)."""
    files = {}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return [Module(name, _parsed(file, file.read_text()), set(files)) for name, file in files.items()]


@cache
def _parsed(file: Path, text: str) -> ast.Module:
    return ast.parse(text, str(file))


def breaches(root: Path) -> list[str]:
    """Every breach in the tree, as `module:line: what is wrong`."""
    modules = read(root)
    values = {name for module in modules for name in _values_of(module)}
    return [breach for module in modules for breach in _breaches_of(module, values)]


def _values_of(module: Module) -> Iterator[tuple[str, str]]:
    """Classes that hold values and do nothing: anybody may make one."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and any(
            isinstance(base, ast.Name) and base.id in VALUES for base in node.bases
        ):
            yield module.name, node.name


def _breaches_of(module: Module, values: set[tuple[str, str]]) -> Iterator[str]:
    own = layer(module.name)
    if ast.get_docstring(module.tree) is None:
        yield f"{module.name}:1: it has no docstring"
    if own is None:
        yield f"{module.name}:1: it has no layer; enter it in tests/architecture.py"
        return
    for line, imported in module.imports:
        if imported.startswith("."):
            yield f"{module.name}:{line}: relative import"
        elif imported.partition(".")[0] == "sidecar":
            yield from _wrong_way(module.name, own, line, imported)
        elif own in PURE and _reaches_out(imported) and imported not in TYPE_ONLY.get(module.name, ()):
            yield f"{module.name}:{line}: layer {own} is pure and must not import {imported}"
    if own in PURE:
        yield from _impure_calls(module, own)
    if own != SEPARATE and not module.name.startswith(WIRING):
        yield from _made_outside_of_wiring(module, values)


def _wrong_way(name: str, own: int, line: int, imported: str) -> Iterator[str]:
    other = layer(imported)
    if other is None:
        yield f"{name}:{line}: {imported} has no layer"
    elif other > own:
        yield f"{name}:{line}: layer {own} must not import {imported} of layer {other}"
    elif own == other == SEPARATE and _home(name) != _home(imported):
        yield f"{name}:{line}: layer {own}'s packages don't import one another: {imported}"


def _reaches_out(imported: str) -> bool:
    return any(imported == name or imported.startswith(f"{name}.") for name in REACHING_OUT)


def _impure_calls(module: Module, own: int) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called in REACHING_CALLS:
                yield f"{module.name}:{node.lineno}: layer {own} is pure and must not call {called}()"


def _made_outside_of_wiring(module: Module, values: set[tuple[str, str]]) -> Iterator[str]:
    concrete = {
        known: f"{source}.{name}"
        for _, source, name, known in module.names
        if name[:1].isupper() and layer(source) == SEPARATE and (source, name) not in values
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in concrete:
            yield f"{module.name}:{node.lineno}: only wiring and the command line make a {concrete[node.func.id]}"


def untested(root: Path, tests: Path) -> list[str]:
    """Modules that no test module names: `sidecar.store.changes` wants a `test_changes.py`, `test_store_changes.py` or
    `test_store.py` below `tests`, or one that imports it. A package's `__init__` wants one only if it defines something."""
    modules = read(root)
    names = {module.name for module in modules}
    files = sorted(tests.rglob("test_*.py"))
    stems = {file.stem for file in files}
    imported = {
        name for file in files for _, name in Module(file.stem, ast.parse(file.read_text(), str(file)), names).imports
    }
    return [
        module.name
        for module in modules
        if _wants_test(root, module) and module.name not in imported and not stems & _test_names(module.name)
    ]


def _wants_test(root: Path, module: Module) -> bool:
    if not (root.parent / Path(*module.name.split(".")) / "__init__.py").exists():
        return True
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in module.tree.body)


def _test_names(module: str) -> set[str]:
    parts = module.split(".")[1:]
    return {
        f"test_{'_'.join(parts[start:end])}" for start in range(len(parts)) for end in range(start + 1, len(parts) + 1)
    }
