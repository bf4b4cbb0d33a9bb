from speechtok import AUDIO_SUFFIXES
from tests.media.kinds import KINDS, WHOLE
from tests.media.table import PAGE, embedded, table


def test_the_page_has_the_table_that_the_tests_read():
    assert embedded(PAGE.read_text(encoding="utf-8")) == table(), "run python -m tests.media.table"


def test_the_page_states_the_counts_of_the_table_and_all_suffixes():
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    whole = sum(kind.outcome == WHOLE for kind in KINDS)
    assert f"{len(KINDS)} kinds" in page
    assert f"{whole} of them are read whole" in page
    assert [suffix for suffix in AUDIO_SUFFIXES if f"`{suffix}`" not in page] == []
