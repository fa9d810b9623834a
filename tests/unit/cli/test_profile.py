"""`minivlm profile`: values change, comments and everything else stay; a mistake changes nothing."""

import pytest
from typer.testing import CliRunner

from minivlm import paths as project_paths
from minivlm.cli.main import app
from minivlm.cli.profile import merged, profile_path
from minivlm.config import load_params
from minivlm.errors import UserError
from minivlm.paths import Paths

COMMITTED = Paths()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with params.yaml and profiles/ that the command takes for the checkout."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "params.yaml").write_bytes(COMMITTED.params.read_bytes())
    monkeypatch.setattr(project_paths, "project_root", lambda: tmp_path)
    return tmp_path


def write(checkout, text, name="own"):
    path = checkout / "profiles" / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def differing(old: str, new: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]


@pytest.mark.parametrize("profile", sorted(COMMITTED.profiles.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_profile_merges_and_keeps_every_comment(profile):
    text, changes = merged(COMMITTED.params, profile)
    assert changes

    def comments(source: str) -> list[str]:
        return [line.split("#", 1)[1] for line in source.splitlines() if "#" in line]

    assert comments(text) == comments(COMMITTED.params.read_text(encoding="utf-8"))


def test_a_profile_that_changes_nothing_gives_the_same_bytes(checkout):
    text, changes = merged(checkout / "params.yaml", write(checkout, "# nothing\n"))
    assert (text.encode(), changes) == ((checkout / "params.yaml").read_bytes(), [])


def test_only_the_named_values_change(checkout):
    before = (checkout / "params.yaml").read_text(encoding="utf-8")
    write(checkout, "sft:\n  learning_rate: 1e-4   # lower\nthreads: 1\n")
    result = CliRunner().invoke(app, ["profile", "own"])
    assert result.exit_code == 0, result.output
    after = (checkout / "params.yaml").read_text(encoding="utf-8")
    changed = differing(before, after)
    assert [new.split("#")[0].strip() for _, new in changed] == ["threads: 1", "learning_rate: 1e-4"]
    assert changed[0][1].endswith("# CPU threads of a computation; part of the result's last bits")
    assert load_params(checkout / "params.yaml").sft.learning_rate == 1e-4


def test_new_keys_go_into_their_section(checkout):
    source = f"path: a.parquet\n      sha256: {'a' * 64}\n"
    write(checkout, f"download:\n  local:\n    heldout:\n      {source}    pretrain:\n      {source}")
    assert CliRunner().invoke(app, ["profile", "own"]).exit_code == 0
    local = load_params(checkout / "params.yaml").download.local
    assert local.heldout is not None and local.heldout.path == "a.parquet" and local.pretrain == local.heldout


def test_show_writes_nothing(checkout):
    before = (checkout / "params.yaml").read_bytes()
    write(checkout, "seed: 7\n")
    result = CliRunner().invoke(app, ["profile", "own", "--show"])
    assert result.output == "seed: 20 → 7\n"
    assert (checkout / "params.yaml").read_bytes() == before


def test_a_second_time_changes_nothing(checkout):
    write(checkout, "seed: 7\n")
    CliRunner().invoke(app, ["profile", "own"])
    result = CliRunner().invoke(app, ["profile", "own"])
    assert result.output == "params.yaml already holds what profile own sets\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sft:\n  learning_rat: 1\n", "profiles/own.yaml: unknown key 'sft.learning_rat' = 1; did you mean 'lear"),
        ("sft:\n  epochs: -1\n", "profiles/own.yaml: sft.epochs = -1"),
        ("sft: 3\n", "profiles/own.yaml: sft = 3"),
        ("- 1\n", "must be a mapping"),
        ("a: [\n", "profiles/own.yaml: not valid YAML"),
    ],
)
def test_a_wrong_profile_is_said_in_one_line_and_changes_nothing(checkout, text, said):
    before = (checkout / "params.yaml").read_bytes()
    write(checkout, text)
    result = CliRunner().invoke(app, ["profile", "own"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and said in result.stderr and result.stderr.count("\n") == 1
    assert (checkout / "params.yaml").read_bytes() == before


def test_an_unknown_profile_names_the_nearest(checkout):
    write(checkout, "seed: 7\n", "photos")
    with pytest.raises(UserError, match="no profile 'photo'; did you mean 'photos'"):
        profile_path(checkout / "profiles", "photo")
    with pytest.raises(UserError, match="there are: photos"):
        profile_path(checkout / "profiles", "zzz")


def test_a_fault_that_params_yaml_already_had_is_not_blamed_on_the_profile(checkout):
    params = checkout / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8").replace("seed: 20", "sed: 20"), encoding="utf-8")
    with pytest.raises(UserError, match=r"^params\.yaml: "):
        merged(params, write(checkout, "threads: 1\n"))
