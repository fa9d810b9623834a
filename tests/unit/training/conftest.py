import pytest
import torch

from tests.unit.model.tiny import write_base


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small to share out; waiting for a second thread costs more than it gains."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("training") / "base", layer=-2)
