import pytest
import torch

from tests.unit.model.tiny import write_base


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small to share out; waiting for a second thread costs more than it gains."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A base directory whose features are taken one layer below the last."""
    return write_base(tmp_path_factory.mktemp("model") / "base", layer=-2)
