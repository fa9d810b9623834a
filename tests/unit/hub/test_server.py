"""The loopback hub against the real client, without this project: what it says is what the client understands."""

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError

from tests.hub_server import files_of, revision_of, sha256_of


def test_the_real_client_takes_a_whole_repository(root, hub, environment):
    folder = snapshot_download("ours/llm", endpoint=hub.url, cache_dir=environment / "cache")
    names = files_of(root / "models/ours/llm")
    assert set(names) == {"config.json", "model.safetensors", "tokenizer.json"}
    for path, file in names.items():
        assert (environment / "cache" / folder / path).read_bytes() == file.read_bytes()


def test_the_real_client_reads_revision_sizes_and_hashes(root, hub):
    api = HfApi(endpoint=hub.url)
    folder = root / "datasets/ours/rows"
    info = api.dataset_info("ours/rows", files_metadata=True)
    assert info.sha == revision_of(folder)
    told = {each.rfilename: (each.size, each.lfs and each.lfs.sha256) for each in info.siblings or []}
    assert told == {path: (file.stat().st_size, sha256_of(file)) for path, file in files_of(folder).items()}
    [entry] = api.get_paths_info("ours/rows", ["sft images.zip"], repo_type="dataset")
    assert entry.lfs is not None and entry.lfs.sha256 == sha256_of(folder / "sft images.zip")
    url = hf_hub_url("ours/rows", "sft images.zip", repo_type="dataset", endpoint=hub.url)
    metadata = get_hf_file_metadata(url, endpoint=hub.url)
    assert (metadata.etag, metadata.size, metadata.commit_hash) == (entry.lfs.sha256, 120_000, info.sha)


def test_the_real_client_knows_the_refusals(root, hub):
    api = HfApi(endpoint=hub.url)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ours/nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        get_hf_file_metadata(hf_hub_url("ours/llm", "nothing", endpoint=hub.url), endpoint=hub.url)
    hub.gated.add("ours/llm")
    with pytest.raises(GatedRepoError):
        api.model_info("ours/llm")
    assert api.model_info("ours/llm", token=hub.token).id == "ours/llm"
