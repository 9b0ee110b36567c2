"""`sidecar policy schema`: what the files may say, for editors and for CI."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer


class For(StrEnum):
    POLICY = "policy"
    CASES = "cases"
    PEOPLE = "people"
    CONFIG = "config"


def schema(
    kind: Annotated[For, typer.Option("--for", help="Which file's.", metavar="KIND")] = For.POLICY,
) -> None:
    """Print the JSON Schema of policy files.

    It is of draft 2020-12; --for prints that of cases, people or the configuration.

    An editor with the YAML language server checks a file by it as it is written, by the file's first line:

    # yaml-language-server: $schema=policy.schema.json
    """
    typer.echo(rendered(kind), nl=False)


def rendered(kind: For) -> bytes:
    """As it is printed, and kept in `config/schemas`."""
    from sidecar.cli.schema_cases import cases_schema
    from sidecar.cli.schema_config import config_schema
    from sidecar.cli.schema_policy import people_schema, policy_schema

    made: dict[For, Callable[[], dict[str, Any]]] = {
        For.POLICY: policy_schema,
        For.CASES: cases_schema,
        For.PEOPLE: people_schema,
        For.CONFIG: config_schema,
    }
    return msgspec.json.format(msgspec.json.encode(made[kind]()), indent=2) + b"\n"
