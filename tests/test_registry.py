from __future__ import annotations

import pytest

from powermem_cli.errors import ConfigError, did_you_mean
from powermem_cli.registry import create

TABLE = {
    "tea": "registry_kettle:Tea",
    "broken": "registry_broken:Thing",
    "ours": "powermem_cli.stores.not_there:Thing",
}
KETTLE = """
class Tea:
    def __init__(self, leaf, minutes=3, *, sugar=False):
        self.made = (leaf, minutes, sugar)
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    (tmp_path / "registry_kettle.py").write_text(KETTLE)
    (tmp_path / "registry_broken.py").write_text("import driver_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)


def test_options_reach_the_constructor():
    assert create("drink", TABLE, "tea", {"leaf": "oolong", "sugar": True}).made == ("oolong", 3, True)
    assert create("drink", TABLE, "TEA", {"leaf": "oolong", "minutes": 5}).made == ("oolong", 5, False)


@pytest.mark.parametrize(
    ("provider", "options", "code", "message", "hint"),
    [
        ("tee", {}, "config.provider", "there is no drink provider 'tee'", "did you mean tea? It is one of tea, broken, ours"),
        ("xyz", {}, "config.provider", "there is no drink provider 'xyz'", "one of tea, broken, ours"),
        ("tea", {"leaf": "x", "minuts": 1}, "config.option", "drink 'tea' has no option 'minuts'",
         "did you mean minutes? It is one of leaf, minutes, sugar"),
        ("tea", {"self": 1}, "config.option", "drink 'tea' has no option 'self'", None),
        ("tea", {}, "config.missing", "drink 'tea' needs leaf", None),
        ("broken", {}, "config.extra", "drink 'broken' needs the Python package 'driver_that_is_not_installed'",
         'pip install "powermem-cli[broken]"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(provider, options, code, message, hint):
    with pytest.raises(ConfigError, match=message) as caught:
        create("drink", TABLE, provider, options)
    assert caught.value.code == code
    assert hint is None or caught.value.hint == hint


def test_a_module_of_ours_that_is_missing_is_a_bug():
    with pytest.raises(ModuleNotFoundError, match=r"stores\.not_there"):
        create("drink", TABLE, "ours", {})


def test_did_you_mean():
    assert did_you_mean("SQLIT", ["sqlite", "postgres"]) == "did you mean sqlite? It is one of sqlite, postgres"
    assert did_you_mean("x", iter(["sqlite", "postgres"])) == "one of sqlite, postgres"
