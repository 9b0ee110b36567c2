"""What each client must be told to use a workspace's route: shell lines to `eval`, or a file. One function for each client.

Law: a token stands in a text only where the client can read it from nowhere else (Bazel's file). Everywhere else the text says where it
is: shell lines read the token's file when they run, and files name the environment variable `SIDECAR_TOKEN`.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from msgspec import Struct
from msgspec.structs import replace

VARIABLE = "SIDECAR_TOKEN"


ANY = "sidecar"
"""Beside a token a key pair says nothing, and S3 tools don't start without one."""
REGION = "us-east-1"


class Place(Struct, frozen=True):
    workspace: str
    url: str
    """Of the sidecar, without a slash at its end."""
    path: str
    """The route's: `/web`; empty for everything."""
    client: str = ""
    """The route's."""
    token_file: str | None = None
    token: str = ""
    """What is in that file; used for Bazel alone."""

    @property
    def address(self) -> str:
        return self.url + self.path

    @property
    def shell_token(self) -> str:
        """For the inside of double quotes."""
        return f"${VARIABLE}" if self.token_file is None else f"$(cat {shlex.quote(self.token_file)})"


class Told(Struct, frozen=True):
    file: str | None
    """Where the text belongs; `None`: shell lines, for `eval`."""
    text: str
    env: Mapping[str, str] = {}
    """Of shell lines that only set variables: each one's value, as a shell reads it within double quotes."""
    note: str = ""
    """For whoever asked."""


def _env(values: Mapping[str, str]) -> Told:
    return Told(None, "".join(f'export {name}="{value}"\n' for name, value in values.items()), values)


def nx(place: Place) -> Told:
    return _env({
        "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": place.address,
        "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": place.shell_token,
    })  # fmt: skip


def turborepo(place: Place) -> Told:
    # Without a team the remote cache is off; it must name the route's workspace (rule 19).
    return _env({"TURBO_API": place.address, "TURBO_TOKEN": place.shell_token, "TURBO_TEAM": place.workspace})


def bazel(place: Place) -> Told:
    text = f"build --remote_cache={place.address}\n"
    if place.token:
        text += f'build --remote_header="Authorization=Bearer {place.token}"\n'
    else:
        text += f'# and on the command line: --remote_header="Authorization=Bearer ${VARIABLE}"\n'
    return Told(".bazelrc.user", text)


def gradle(place: Place) -> Told:
    insecure = ""
    if place.url.startswith("http:"):  # Gradle 6.0 and later refuse it otherwise; earlier ones don't know the property
        insecure = (
            "        if (delegate.hasProperty('allowInsecureProtocol')) { delegate.allowInsecureProtocol = true }\n"
        )
    return Told(
        "settings.gradle",
        "buildCache {\n"
        "    remote(HttpBuildCache) {\n"
        f"        url = '{place.address}/'\n"
        f"{insecure}"
        "        push = System.getenv('CI') != null\n"
        "        credentials {\n"
        f"            username = '{place.workspace}'\n"
        f"            password = System.getenv('{VARIABLE}')\n"
        "        }\n"
        "    }\n"
        "}\n",
    )


def nix(place: Place) -> Told:
    host = urlsplit(place.url).hostname or ""
    netrc = f"$HOME/.config/nix/netrc-{place.workspace}"
    return Told(
        None,
        'mkdir -p "$HOME/.config/nix"\n'
        f"(umask 077; printf 'machine %s login %s password %s\\n' {shlex.quote(host)} {shlex.quote(place.workspace)}"
        f' "{place.shell_token}" > "{netrc}")\n'
        f'export NIX_CONFIG="extra-substituters = {place.address}\nnetrc-file = {netrc}"\n',
    )


def ccache(place: Place) -> Told:
    return _env({"CCACHE_REMOTE_STORAGE": f"{place.address}|bearer-token={place.shell_token}"})


def sccache(place: Place) -> Told:
    return _env({
        "SCCACHE_WEBDAV_ENDPOINT": place.url,
        "SCCACHE_WEBDAV_KEY_PREFIX": place.path.strip("/") or "/",
        "SCCACHE_WEBDAV_TOKEN": place.shell_token,
    })  # fmt: skip


def npm(place: Place) -> Told:
    bare = place.address.partition(":")[2]
    return Told(".npmrc", f"registry={place.address}/\n{bare}/:_authToken=${{{VARIABLE}}}\n")


def pip(place: Place) -> Told:
    scheme, _, rest = place.address.partition("://")
    return _env({"PIP_INDEX_URL": f"{scheme}://__token__:{place.shell_token}@{rest}/simple/"})


def maven(place: Place) -> Told:
    name = escape(place.workspace)
    return Told(
        "settings.xml",
        f"""<settings>
  <servers>
    <server>
      <id>{name}</id>
      <configuration>
        <httpHeaders>
          <property>
            <name>Authorization</name>
            <value>Bearer ${{env.{VARIABLE}}}</value>
          </property>
        </httpHeaders>
      </configuration>
    </server>
  </servers>
  <profiles>
    <profile>
      <id>{name}</id>
      <repositories>
        <repository>
          <id>{name}</id>
          <url>{escape(place.address)}/</url>
        </repository>
      </repositories>
    </profile>
  </profiles>
  <activeProfiles>
    <activeProfile>{name}</activeProfile>
  </activeProfiles>
</settings>
""",
    )


def rclone(place: Place) -> Told:
    remote = re.sub("[^A-Za-z0-9]", "_", place.workspace).upper()
    told = {"TYPE": "webdav", "URL": place.address, "VENDOR": "other", "BEARER_TOKEN": place.shell_token}
    where = ""
    if place.client == "s3":
        told = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": place.url,
            "REGION": REGION,
            "ACCESS_KEY_ID": ANY,
            "SECRET_ACCESS_KEY": ANY,
            "SESSION_TOKEN": place.shell_token,
        }
        where = place.path.strip("/")
    lines = _env({f"RCLONE_CONFIG_{remote}_{name}": value for name, value in told.items()})
    return replace(lines, note=f"its files are at {remote}:{where}")


def boto3(place: Place) -> Told:
    """What every AWS SDK and the AWS CLI read. The endpoint is S3's alone: a role is still asked for at AWS."""
    lines = _env({
        "AWS_ENDPOINT_URL_S3": place.url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ANY,
        "AWS_SECRET_ACCESS_KEY": ANY,
        "AWS_SESSION_TOKEN": place.shell_token,
    })  # fmt: skip
    return replace(lines, note=_bucket(place))


def aws(place: Place) -> Told:
    # A process that prints credentials is asked each time, so that the token stays where it is and may be rotated there.
    said = f'{{"Version":1,"AccessKeyId":"{ANY}","SecretAccessKey":"{ANY}","SessionToken":"%s"}}'
    program = f'printf {shlex.quote(said)} "{place.shell_token}"'
    return Told(
        "~/.aws/config",
        f"[profile {place.workspace}]\n"
        f"region = {REGION}\n"
        f"services = {place.workspace}\n"
        f"credential_process = sh -c {shlex.quote(program)}\n"
        f"[services {place.workspace}]\n"
        "s3 =\n"
        f"  endpoint_url = {place.url}\n",
        note=f"{_bucket(place)}, with --profile {place.workspace}",
    )


def _bucket(place: Place) -> str:
    return f"its objects are at s3://{place.path.strip('/')}/"


def git_lfs(place: Place) -> Told:
    told = {
        "lfs.url": place.address,
        f"lfs.{place.address}.locksverify": "false",
        f"http.{place.address}.extraheader": f"Authorization: Bearer {place.shell_token}",
    }
    lines = {"GIT_CONFIG_COUNT": str(len(told))}
    for number, (name, value) in enumerate(told.items()):
        lines |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return _env(lines)


def curl(place: Place) -> Told:
    # By a configuration from a pipe: what stands on a command line every user of the machine can read. The pipe is descriptor 3, and
    # curl's standard input the caller's, for `-T -` and `--data @-`; in one line, for an `eval` without quotes.
    return Told(
        None,
        "cache_curl() { key=$1; shift; { "
        f'printf \'header = "Authorization: Bearer %s"\\n\' "{place.shell_token}"'
        f' | curl -sS --fail-with-body -K /dev/fd/3 "$@" {shlex.quote(place.address)}/"$key" 3<&0 <&4 4<&-; }} 4<&0; }}\n',
    )


class Client(Struct, frozen=True):
    told: Callable[[Place], Told]
    profiles: tuple[str, ...]
    """What a route's `client` may be for it, the best first."""


CLIENTS: dict[str, Client] = {
    "nx": Client(nx, ("nx",)),
    "turborepo": Client(turborepo, ("turborepo",)),
    "bazel": Client(bazel, ("bazel",)),
    "gradle": Client(gradle, ("gradle",)),
    "nix": Client(nix, ("nix",)),
    "ccache": Client(ccache, ("webdav", "plain")),
    "sccache": Client(sccache, ("webdav",)),
    "npm": Client(npm, ("plain",)),
    "pip": Client(pip, ("plain",)),
    "maven": Client(maven, ("plain",)),
    "git-lfs": Client(git_lfs, ("plain",)),
    "rclone": Client(rclone, ("webdav", "s3")),
    "aws": Client(aws, ("s3",)),
    "boto3": Client(boto3, ("s3",)),
    "curl": Client(curl, ("plain", "webdav")),
}
