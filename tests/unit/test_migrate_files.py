"""What is found in a repository's files, and how they read without it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli import jsonc
from sidecar.cli.migrate_files import rule_for

CASES: list[tuple[str, str, str, str, list[str]]] = [
    ("nx: the token goes with its line", "nx.json",
     '{\n  "nxCloudAccessToken": "abc123",\n  "targets": {"a": 1}\n}\n', '{\n  "targets": {"a": 1}\n}\n', ["abc123"]),
    ("nx: the last member takes the comma before it along", "nx.json",
     '{\n  "plugins": [1, 2], // ours\n  "parallel": 3,\n  "nxCloudId": "x"\n}', '{\n  "plugins": [1, 2], // ours\n  "parallel": 3\n}', []),
    ("nx: a bucket with its keys", "nx.json",
     '{"s3": {"bucket": "b", "secretAccessKey": "s3cr3t"}, "a": 1}', '{ "a": 1}', ["s3cr3t"]),
    ("nx: a runner with a remote cache", "nx.json",
     '{"tasksRunnerOptions": {"default": {"runner": "nx-cloud", "options": {"accessToken": "t0k"}}}}', '{"tasksRunnerOptions": {}}', ["t0k"]),
    ("nx: another runner stays", "nx.json", '{"tasksRunnerOptions": {"default": {"runner": "nx/tasks-runners/default"}}}', "", []),
    ("nx: the same name elsewhere stays", "nx.json", '{"generators": {"nxCloudId": "x", "s3": {}}}', "", []),
    ("nx: several in a row, all of them last", "nx.json", '{"a": 1, "nxCloudId": "x", "nxCloudUrl": "y"}', '{"a": 1}', []),
    ("nx: all there is", "nx.json", '{"nxCloudAccessToken":"t"}', "{}", ["t"]),
    ("nx: an escape", "nx.json", '{"nxCloudAccessToken":"a\\"b\\\\"}', "{}", ['a\\"b\\\\']),
    ("nx: half a document is left alone", "nx.json", '{"nxCloudAccessToken": "t"', "", []),
    ("nx: carriage returns stay", "nx.json", '{\r\n  "nxCloudId": "x",\r\n  "a": 1\r\n}\r\n', '{\r\n  "a": 1\r\n}\r\n', []),
    ("turborepo: the address goes, the signature stays", "turbo.json",
     '{"remoteCache": {"signature": true, "apiUrl": "https://old", "teamId": "t"}}', '{"remoteCache": {"signature": true}}', []),
    ("turborepo: what was logged in with", "apps/.turbo/config.json",
     '{\n  "token": "vercel-tok",\n  "teamid": "team_1",\n  "other": 1\n}', '{\n  "other": 1\n}', ["vercel-tok"]),
    ("bazel: the flag goes, the rest of the line stays", ".bazelrc",
     "build --jobs=8 --remote_cache=https://u:pw@old/cache --color=yes\n",
     "try-import %workspace%/.bazelrc.user\nbuild --jobs=8 --color=yes\n", ["u:pw"]),
    ("bazel: a line with nothing else goes", ".bazelrc",
     '# cache\nbuild:ci --remote_header="Authorization=Bearer tok-1"\nbuild --remote_header=x-team=web\n',
     "# cache\ntry-import %workspace%/.bazelrc.user\nbuild --remote_header=x-team=web\n", ["Bearer tok-1"]),
    ("bazel: a secret goes whole, wherever its quotes are", ".bazelrc",
     "build --remote_header=Authorization=\"Bearer tok-1\" --a\nbuild --remote_header=Authorization=Basic dG9r --b\n",
     "try-import %workspace%/.bazelrc.user\nbuild --a\nbuild --b\n", ["Bearer tok-1", "Basic dG9r"]),
    ("bazel: a hosted cache's key", ".bazelrc",
     "build --remote_header=x-buildbuddy-api-key=k3y\n", "try-import %workspace%/.bazelrc.user\n", ["k3y"]),
    ("bazel: a header of any name that holds a secret", ".bazelrc",
     "build --remote_header=x-acme-token=t1 --remote_cache_header=x-cache-key=main\n",
     "try-import %workspace%/.bazelrc.user\nbuild --remote_cache_header=x-cache-key=main\n", ["t1"]),
    ("bazel: a header of the cache alone, and a flag that only begins like one", ".bazelrc",
     "build --a --remote_cache_header=x-api-key=k --remote_cache_compression --b\n",
     "try-import %workspace%/.bazelrc.user\nbuild --a --remote_cache_compression --b\n", ["k"]),
    ("bazel: what shows builds keeps its key, which is told", ".bazelrc",
     "build --bes_header=x-buildbuddy-api-key=k3y --bes_header=x-team=web\nbuild --remote_cache=https://old\n",
     "build --bes_header=x-buildbuddy-api-key=k3y --bes_header=x-team=web\ntry-import %workspace%/.bazelrc.user\n", ["k3y"]),
    ("bazel: a value after a space", ".bazelrc",
     "build --google_credentials /k.json\nbuild --google_default_credentials\n", "try-import %workspace%/.bazelrc.user\n", []),
    ("bazel: a comment stays", ".bazelrc", "# build --remote_cache=https://old\n", "", []),
    ("bazel: carriage returns stay", ".bazelrc",
     "build --remote_cache=grpc://old\r\ntest --x\r\n", "try-import %workspace%/.bazelrc.user\r\ntest --x\r\n", []),
    ("gradle: what is named after the cache goes", "gradle.properties",
     "org.gradle.caching=true\nbuildCachePassword=hunter2\nbuildCacheUrl = https://old\n", "org.gradle.caching=true\n", ["hunter2"]),
    ("gradle: any other password is told and left", "gradle.properties", "signing.password=hunter2\n", "signing.password=hunter2\n", ["hunter2"]),
    ("gradle: caching itself stays", "gradle.properties", "org.gradle.caching=true\norg.gradle.unsafe.configuration-cache=true\n", "", []),
    ("gradle: a literal becomes a variable", "settings.gradle",
     "buildCache { remote(HttpBuildCache) { url = 'https://old/'\n credentials { username = 'u'; password = 'hunter2' } } }\n",
     "buildCache { remote(HttpBuildCache) { url = 'https://old/'\n credentials { username = 'u'; password = System.getenv(\"SIDECAR_TOKEN\") } } }\n",
     ["hunter2"]),
    ("gradle: in Kotlin, too", "a/settings.gradle.kts",
     'remote<HttpBuildCache> { credentials { password = "hunter2" } }', 'remote<HttpBuildCache> { credentials { password = System.getenv("SIDECAR_TOKEN") } }',
     ["hunter2"]),
    ("gradle: a password elsewhere is not the cache's", "settings.gradle", "maven { credentials { password = 'x' } }", "", []),
    ("gradle: what is ours already stays", "settings.gradle",
     "remote(HttpBuildCache) { credentials { password = System.getenv('SIDECAR_TOKEN') } }", "", []),
    ("npm: a token becomes a variable", "web/.npmrc",
     "registry=https://r/\n//r/:_authToken=npm_abc\nalways-auth=true\n", "registry=https://r/\n//r/:_authToken=${SIDECAR_TOKEN}\nalways-auth=true\n", ["npm_abc"]),
    ("npm: base64 becomes a token", ".npmrc", "//r/:_password=cGFzcw==\n", "//r/:_authToken=${SIDECAR_TOKEN}\n", ["cGFzcw=="]),
    ("npm: a variable stays", ".npmrc", "//r/:_authToken=${NPM_TOKEN}\n", "", []),
    ("ccache: the store with its password goes", "ccache.conf",
     "max_size = 5G\nremote_storage = http://old/|bearer-token=tok-abc|layout=flat\n", "max_size = 5G\n", ["tok-abc"]),
    ("ccache: a directory stays", "ccache.conf", "secondary_storage = file:/mnt/cache\n", "", []),
    ("sccache: what is remote goes", ".cargo/config.toml",
     '[env]\nSCCACHE_WEBDAV_TOKEN = "tok"\nSCCACHE_DIR = "/tmp"\nAWS_SECRET_ACCESS_KEY = { value = "k", force = true }\n',
     '[env]\nSCCACHE_DIR = "/tmp"\n', ["tok", "k"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "after", "hidden"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_file(name: str, text: str, after: str, hidden: list[str]) -> None:
    """`after` is empty where nothing is found."""
    rule = rule_for(name)
    assert rule is not None
    changed = rule(text)
    assert changed.text == (after or text)
    assert [each.secret for each in changed.findings if each.secret] == hidden
    assert bool(changed.findings) is bool(after)
    assert all(each.kind == "token" for each in changed.findings if each.secret)
    again = rule(changed.text)
    assert (again.text, [each for each in again.findings if each.change != "none"]) == (changed.text, [])


def test_other_files_are_nobodys() -> None:
    for name in (
        "package.json",
        "config.json",
        ".cargo/other.toml",
        "config.toml",
        "x/.turbo/other.json",
        "nx.json/readme",
        "",
    ):
        assert rule_for(name) is None


@given(
    st.sampled_from([case[1] for case in CASES]),
    st.text(alphabet='{}[]":,\\ \t\r\n#=/-_aTktoken\u2028\x0b', max_size=80),
)
def test_any_text_is_read_and_what_is_not_found_stays(name: str, text: str) -> None:
    rule = rule_for(name)
    assert rule is not None
    changed = rule(text)
    if not changed.findings:
        assert changed.text == text


@given(st.text(max_size=60))
def test_members_of_any_text(text: str) -> None:
    for member in jsonc.members(text):
        assert text[member.start] == '"' or member.path[-1].isdecimal()


def test_depth_is_bounded() -> None:
    assert jsonc.members("[" * 100_000) == []
    assert jsonc.members("[" * 100 + "]" * 100) == []
    assert jsonc.members('{"a":' * 1000 + "1" + "}" * 1000) == []
