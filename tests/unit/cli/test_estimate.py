"""The table of an estimate, as a terminal of 80 columns shows it."""

import pytest

from minivlm.cli.estimate import show
from minivlm.paths import STAGES

GIB = 1 << 30
TIME = {"expected": 4_442_400.0, "low": 3_600_000.0, "high": 44_442_000.0}
MONEY = {"expected": 1234.0, "low": 1000.0, "high": 12_345.0}
ROOM = {"low": 123 * GIB, "high": 512 * GIB}


@pytest.fixture
def shown(monkeypatch, capsys):
    """What `show` prints of all stages, each as long and dear as the largest runs are."""
    monkeypatch.setenv("COLUMNS", "80")
    figures = {"seconds": TIME, "money": MONEY, "memory": ROOM, "disk": ROOM | {"free": 1024 * GIB}}
    about = {
        "profile": "",
        "device": "H200",
        "precision": "bf16",
        "how": "",
        "price_per_hour": 1.0,
        "currency": "CNY",
    }
    show({**about, "total": figures, "stages": dict.fromkeys(STAGES, figures)})
    return capsys.readouterr().out


def test_no_name_and_no_figure_is_cut_however_large_the_figures_are(shown):
    table = shown[: shown.index("\ndownload\n")]
    assert "…" not in table and max(map(len, shown.splitlines())) <= 80
    assert all(f"\n {name} " in table for name in (*STAGES, "all known"))
    for figure in ("1,234 h", "1,234", "(1,000–12,345)", "123–512 GiB"):
        assert table.count(figure) >= len(STAGES)
