import numpy as np

from benchmarks.semantics.phone_scores import PhoneScores, phone_table, score
from speechtok.metrics import PhoneScore


def test_silence_is_left_out_of_the_second_number():
    phones = np.array([0, 0, 1, 1, 2, 2, -1])
    labels = np.array([5, 5, 1, 1, 1, 1, 9])
    row = score("x", labels, phones, silence=0)
    assert (row.all.frames, row.spoken.frames) == (6, 4)
    assert 0 < row.all.pnmi < 1
    assert row.spoken.pnmi == 0.0


def test_the_table_has_one_row_for_each_score():
    rows = [PhoneScores("codebook 0", PhoneScore(0.5, 0.6, 0.7, 10), PhoneScore(0.25, 0, 0, 5))]
    assert phone_table(rows).splitlines()[-1] == "| codebook 0 | 0.500 | 0.250 | 0.600 | 0.700 |"
