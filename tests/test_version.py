import configparser
from pathlib import Path

import speechtok
from speechtok import version


def test_the_version_of_the_package_is_stated_once():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: speechtok.version.__version__"
    assert speechtok.__version__ == version.__version__
