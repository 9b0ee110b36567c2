"""`sidecar token rules`: what secret scanners have to look for."""

import typer

from sidecar.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from sidecar.cli.token_work import loaded, print_json
from sidecar.credentials.patterns import as_gitleaks
from sidecar.credentials.patterns import rules as rules_of


def rules(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Print rules for secret scanners, as gitleaks reads them.

    They are about tokens of the configured brand.
    """
    brand = loaded(config)[1].brand
    if json:
        print_json(rules_of(brand))
    else:
        typer.echo(as_gitleaks(brand), nl=False)
