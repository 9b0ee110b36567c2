"""`sidecar policy check` and `sidecar policy explain`: is it right, and what does it say to this request?"""

import asyncio
import json as jsonlib
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sidecar.cli.explanation import Explanation
from sidecar.cli.options import DEFAULT_CONFIG, ConfigIfAnyOption, ConfigOption, Exit, JsonOption, commands, complain
from sidecar.cli.policy_diff import diff
from sidecar.cli.policy_report import report
from sidecar.cli.policy_schema import schema
from sidecar.cli.policy_test import run_tests
from sidecar.document import suggestion
from sidecar.errors import DocumentError, Problem
from sidecar.model import Principal, Secret
from sidecar.policy.routes import Snapshot
from sidecar.reasons import Reason
from sidecar.settings import Settings

app = commands("Look at the policies.")
app.command("test")(run_tests)
app.command()(report)
app.command()(diff)
app.command()(schema)

_MAX_INPUT = 256 * 1024


@app.callback()
def policy() -> None:
    """Look at the policies."""


@app.command()
def check(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The directory.", show_default="the configuration's")
    ] = None,
    config: ConfigIfAnyOption = None,
    json: JsonOption = False,
) -> None:
    """Tell everything that is wrong with the policies.

    That is: each file by itself, where they contradict each other, and which of their cases don't hold.

    With a configuration the names of issuers and upstreams are checked, too. Exits 2 if anything is wrong.
    """
    from sidecar.cli.policy_files import load_policies
    from sidecar.config import load  # loads cryptography: `--help` doesn't need it

    settings = load(config or DEFAULT_CONFIG) if config is not None or directory is None else None
    folder = directory or (settings.policies if settings is not None else Path())
    policies = load_policies(folder, settings)
    problems, files = list(policies.problems) or _unmet(folder, policies.snapshot, settings), policies.files
    if json:
        said = {"ok": not problems, "files": files, "names_checked": settings is not None, "problems": problems}
        typer.echo(msgspec.json.encode(said))
    else:
        complain(problems)
        if settings is None:
            complain(["note: without --config, names of issuers and upstreams are not checked"])
        else:
            complain(f"note: the shared password lets nobody in: {flaw}" for flaw in _unfit(folder, policies.snapshot))
        if not problems:
            typer.echo(f"{folder}: {files} policy {'file is' if files == 1 else 'files are'} right")
    if problems:
        raise typer.Exit(Exit.INVALID)


def _unfit(folder: Path, snapshot: Snapshot) -> list[str]:
    """Old shared passwords whose file can't be used. No mistake of the policy's: the file may be on another machine alone."""
    from sidecar.policy.passwords import PasswordFiles

    files = PasswordFiles(folder.parent if folder.is_file() else folder, lambda: snapshot, settle=0.0, quiet=True)
    files.load_now()
    return files.problems()


def _unmet(folder: Path, snapshot: Snapshot, settings: Settings | None) -> list[Problem]:
    """The cases that don't hold, and what is wrong with the files that they are in (rule 26)."""
    from sidecar.cli.policy_files import cases_beside, own_cases, read_cases_at
    from sidecar.trial import run_case

    async def run() -> list[Problem]:
        issuers = settings.issuers if settings is not None else None
        sources = [*own_cases(snapshot), *read_cases_at(cases_beside(folder), issuers)]
        asked = [
            (source.file, await run_case(case, snapshot, time.time()))
            for source in sources
            for case in source.read.cases
        ]
        return [
            Problem(file, result.case.line, "$.cases", f"the case {result}")
            for file, result in asked
            if not result.passed
        ]

    try:
        return asyncio.run(run())
    except DocumentError as error:
        return list(error.problems)


@app.command()
def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="As in the request, for example GET.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="As in the request, for example /web/a.tar?x=1.")],
    token_file: Annotated[Path | None, typer.Option(help="Ask with this token.", metavar="FILE")] = None,
    basic_file: Annotated[
        Path | None,
        typer.Option(help="Ask with this user:password in Basic, as an old shared password is.", metavar="FILE"),
    ] = None,
    claims: Annotated[Path | None, typer.Option(help="Ask as a JWT with these claims (JSON).", metavar="FILE")] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Ask without a credential.")] = False,
    issuer: Annotated[
        str | None, typer.Option(help="With --claims: the configured issuer; else their iss tells.", metavar="NAME")
    ] = None,
    exists: Annotated[
        bool | None, typer.Option("--exists/--missing", help="Whether the key exists, where it matters (rule 17).")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Walk one request's way to its decision, rule by rule.

    Of each rule it says why it did or didn't match.

    It takes the road that requests take. No store is asked: whether the key exists is yours to say.
    Where that matters and isn't said, both answers are told.

    Exits 0 if the request is allowed, 1 if it is refused.
    """
    if sum(said is not None for said in (token_file, basic_file, claims)) + anonymous != 1:
        raise typer.BadParameter("say exactly one of --token-file, --basic-file, --claims and --anonymous")
    if method.startswith("/") and not path.startswith("/"):
        raise typer.BadParameter(f"the method comes first: {path} {method}", param_hint="METHOD")
    from sidecar.cli.explain import Question, explain_request  # loads the parts that verify tokens
    from sidecar.config import load

    settings = load(config)
    file = token_file or basic_file
    token = Secret(_text(file).strip()) if file is not None else None
    stated = _principal(settings, claims, issuer) if claims is not None else None
    explanation = asyncio.run(
        explain_request(settings, Question(method, path, token, basic_file is not None, stated, exists))
    )
    if json:
        typer.echo(msgspec.json.encode(explanation))
    else:
        _print(explanation)
        if method != method.upper() and explanation.reason == Reason.UNKNOWN_OPERATION:
            complain([f"note: methods are compared as they are written; did you mean {method.upper()}?"])
        if not path.startswith("/") and explanation.reason == Reason.BAD_TARGET:
            complain([f"note: a path begins with a slash; did you mean /{path}?"])
    if explanation.reason == Reason.POLICY_MISSING:
        complain(
            [
                "note: the file as it is now can't be used: `sidecar policy check` says why; "
                "a running sidecar goes on with its last good version"
            ]
        )
    if not explanation.allowed:
        raise typer.Exit(Exit.FAILED)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_INPUT).decode()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8 text") from None


def _principal(settings: Settings, file: Path, issuer: str | None) -> Principal:
    try:
        claims: Any = jsonlib.loads(_text(file))
    except ValueError as error:
        raise typer.BadParameter(f"{file} is not JSON: {error}") from None
    if not isinstance(claims, dict):
        raise typer.BadParameter(f"{file} is not a JSON object")
    known = ", ".join(settings.issuers) or "none is configured"
    if issuer is not None and issuer not in settings.issuers:
        raise typer.BadParameter(f"--issuer {issuer!r} is not configured{suggestion(issuer, settings.issuers)}")
    if issuer is None:
        named = [name for name, known in settings.issuers.items() if known.issuer == claims.get("iss")]
        issuer = named[0] if named else None
    if issuer not in settings.issuers:
        raise typer.BadParameter(f"whose claims are they? Say --issuer, one of: {known}")
    from sidecar.cli.explain import stated_principal

    return stated_principal(settings.issuers[issuer], claims)


def _print(explanation: Explanation) -> None:
    """Colours only where a terminal reads them."""
    for line, style in explanation.lines():
        typer.echo(typer.style(line, **style) if style else line)
