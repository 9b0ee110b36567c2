"""`sidecar client-config`: what to tell a build tool so that it uses a workspace's route, as the policy has it now."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

import msgspec
import typer

from sidecar.cli.client_texts import CLIENTS, VARIABLE, Place
from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, complain
from sidecar.document import suggestion
from sidecar.errors import SidecarError
from sidecar.policy.compiled import Route, Workspace
from sidecar.settings import Settings


class NothingToPointAt(SidecarError):
    """There is no such route, or nobody can say where it is."""


def client_config(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help=f"One of {', '.join(CLIENTS)}.")],
    workspace: Annotated[str, typer.Option(metavar="NAME", help="Whose route it is to use.")],
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where its token is.", show_default=f"the variable {VARIABLE}")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the sidecar is, seen from the client.", show_default="the first listener"
        ),
    ] = None,
    route: Annotated[
        str | None, typer.Option(metavar="PATH", help="Which route, where several fit.", show_default="the first")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Print what a build tool needs to use a workspace.

    That is lines for a shell, or a file. For example: eval "$(sidecar client-config nx --workspace web --token-file token)"
    """
    known = CLIENTS.get(client)
    if known is None:
        raise typer.BadParameter(f"{client!r} is unknown{suggestion(client, CLIENTS)}", param_hint="CLIENT")
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config)
    found = _route(_workspace(settings, workspace), known.profiles, route, client)
    address = _address(url) if url is not None else _listener(settings)
    path = "" if found.path == "/" else quote(found.path, safe="/")
    told = known.told(Place(workspace, address, path, found.client, _named(token_file), _token(token_file)))
    if told.note:
        complain([f"note: {told.note}"])
    if not json:
        typer.echo(told.text, nl=False)
        if told.file is not None:
            token = f"; the token is read from the variable {VARIABLE}" if VARIABLE in told.text else ""
            complain([f"note: this belongs into {told.file}{token}"])
        return
    said = {"client": client, "workspace": workspace, "route": found.path, "url": address + path, "file": told.file}
    typer.echo(msgspec.json.encode({**said, "env": told.env, "text": told.text}))


def _workspace(settings: Settings, name: str) -> Workspace:
    from sidecar.policy.source import PolicySource
    from sidecar.profiles import PROFILES

    source = PolicySource(
        settings.policies, issuers=settings.issuers, upstreams=settings.upstreams, profiles=PROFILES, settle=0.0
    )
    try:
        source.load_now()
    except OSError as error:
        raise NothingToPointAt(f"{settings.policies}: {error.strerror}") from None
    workspaces = source.snapshot.workspaces
    if name not in workspaces:
        known = ", ".join(sorted(workspaces)) or "none"
        raise NothingToPointAt(f"no policy in {settings.policies} has the workspace {name!r}; there are: {known}")
    if workspaces[name].broken:
        raise NothingToPointAt(f"the policy of {name} can't be read: sidecar policy check says why")
    return workspaces[name]


def _route(workspace: Workspace, profiles: tuple[str, ...], wanted: str | None, client: str) -> Route:
    fitting = [route for profile in profiles for route in workspace.routes if route.client == profile]
    if wanted is not None:
        fitting = [route for route in fitting if route.path == wanted]
    if fitting:
        if len(fitting) > 1:
            others = ", ".join(route.path for route in fitting[1:])
            complain([f"note: the route {fitting[0].path}; --route names another: {others}"])
        return fitting[0]
    needed = " or ".join(profiles)
    if wanted is not None:
        raise NothingToPointAt(f"{workspace.name} has no route {wanted} with client: {needed}")
    raise NothingToPointAt(
        f"{workspace.name} has no route for {client}; add one to {workspace.file}: "
        f"{{path: /{workspace.name}-{client}, client: {profiles[0]}, upstream: ...}}"
    )


def _address(url: str) -> str:
    """As a client can be told it: it goes into shell lines and files, so nothing that they could read otherwise."""
    parts = urlsplit(url)
    host_is_plain = all(each.isalnum() or each in ".-:[]_" for each in parts.netloc) and parts.netloc.isascii()
    if parts.scheme not in ("http", "https") or not parts.hostname or not host_is_plain or parts.path.strip("/"):
        raise typer.BadParameter(f"{url!r}: http://HOST:PORT or https://HOST, without a path", param_hint="--url")
    if parts.query or parts.fragment:
        raise typer.BadParameter(f"{url!r}: without a query", param_hint="--url")
    return f"{parts.scheme}://{parts.netloc}"


def _listener(settings: Settings) -> str:
    for listener in settings.listen:
        address = listener.address
        if address.unix is not None:
            continue
        host = address.host
        try:
            if ip_address(host).is_unspecified:
                host = "::1" if ":" in host else "127.0.0.1"
        except ValueError:
            pass  # a name
        complain([f"note: {host} is where the sidecar listens; --url says how clients reach it"])
        return f"http{'s' if listener.tls else ''}://{f'[{host}]' if ':' in host else host}:{address.port}"
    raise NothingToPointAt("the sidecar listens on unix sockets alone; --url says how clients reach it")


def _named(token_file: Path | None) -> str | None:
    return None if token_file is None else str(token_file.absolute())


def _token(token_file: Path | None) -> str:
    """Raises `NothingToPointAt`, which doesn't repeat what is in the file."""
    if token_file is None:
        return ""
    try:
        text = token_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NothingToPointAt(f"{token_file}: {getattr(error, 'strerror', None) or 'no token'}") from None
    if not text or not text.isprintable() or any(each in " \"'`$\\" for each in text):
        raise NothingToPointAt(f"{token_file}: no token, or more than one")
    return text
