"""`sidecar store`: what the embedded stores of a configuration hold. It looks from outside; the serving process is not asked."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import typer
from msgspec import Struct

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, Exit, JsonOption, commands, complain
from sidecar.settings import UpstreamSettings

app = commands("The embedded store.")


class Stats(Struct, frozen=True):
    upstream: str
    directory: str
    objects: int
    bytes: int
    """Of the objects' files, their descriptions included."""
    limit: int | None
    evictions: int | None
    """Since the index was made; `None` where there is none."""
    evicted_bytes: int | None
    oldest_use: str | None
    """RFC 3339. Without an index: when the oldest object was written."""
    complete: bool
    """Whether the index has seen every folder; until then the numbers grow."""
    uploads: int
    """Files of uploads in progress, or of such as broke off."""
    upload_bytes: int
    free: int
    """Bytes that the filesystem has left."""


@app.callback()
def group() -> None: ...


@app.command()
def stats(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Tell what each embedded store holds and has evicted."""
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    upstreams = [each for each in load(config).upstreams.values() if each.url.startswith("file:")]
    found, failed = [], False
    for each in upstreams:
        try:
            found.append(_stats(each))
        except OSError as error:
            complain([f"error: {each.name}: {_directory(each)}: {error.strerror}"])
            failed = True
    if json:
        typer.echo(msgspec.json.encode({"stores": found}))
    else:
        for line in _lines(found):
            typer.echo(line)
        if not upstreams:
            complain([f"no upstream of {config} is an embedded store (file://)"])
    if failed:
        raise typer.Exit(Exit.FAILED)


def _directory(settings: UpstreamSettings) -> Path:
    return Path(unquote(urlsplit(settings.url).path))


def _stats(settings: UpstreamSettings) -> Stats:
    from sidecar.audit.schema import rfc3339
    from sidecar.upstream.file_index import read_totals
    from sidecar.upstream.file_layout import Layout

    directory = _directory(settings)
    filesystem = os.statvfs(directory)
    layout = Layout(directory)
    totals = read_totals(directory)
    uploads = list(layout.upload_sizes())
    if totals is not None:
        objects, size, oldest = totals.objects, totals.bytes, None if totals.oldest is None else totals.oldest / 1e6
    else:
        objects, size, oldest = 0, 0, None
        for each, written in layout.every_size():
            objects, size = objects + 1, size + each
            oldest = written if oldest is None else min(oldest, written)
    return Stats(
        upstream=settings.name,
        directory=str(directory),
        objects=objects,
        bytes=size,
        limit=settings.max_size,
        evictions=totals.evictions if totals is not None else None,
        evicted_bytes=totals.evicted_bytes if totals is not None else None,
        oldest_use=None if oldest is None else rfc3339(oldest),
        complete=totals.complete if totals is not None else True,
        uploads=len(uploads),
        upload_bytes=sum(uploads),
        free=filesystem.f_bavail * filesystem.f_frsize,
    )


def _lines(found: list[Stats]) -> Iterator[str]:
    for place, each in enumerate(found):
        if place:
            yield ""
        full = f" of {_size(each.limit)} ({100 * each.bytes // each.limit} %)" if each.limit else ", no limit"
        yield f"{each.upstream}  {each.directory}"
        yield f"  objects     {each.objects}{'' if each.complete else '; still counting'}"
        yield f"  bytes       {_size(each.bytes)}{full}"
        if each.evictions is not None:
            yield f"  evicted     {each.evictions} ({_size(each.evicted_bytes or 0)})"
        yield f"  oldest use  {each.oldest_use or 'none'}"
        yield f"  uploads     {each.uploads} ({_size(each.upload_bytes)})"
        yield f"  disk        {_size(each.free)} free"


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
