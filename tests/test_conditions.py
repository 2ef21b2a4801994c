import numpy as np
import pytest

from holotf import conditions
from holotf.errors import UserError
from holotf.flags import spelled_out

NAMES = ("red cube", "blue sphere", "green cylinder")


def test_conditions_as_they_are_written():
    assert conditions.parse(" blue sphere ,red cube;green cylinder; ", NAMES, 3) == [("blue sphere", "red cube"), (NAMES[2],)]
    np.testing.assert_array_equal(conditions.rows([(NAMES[1], NAMES[0]), ()], NAMES), [[1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red cub", "--labels='red cub': there is no 'red cub': use some of red cube, blue sphere, green cylinder"),
        ("red cube,", "there is no '': use some of"),
        ("red cube, red cube", "'red cube' is there twice: name it once"),
        (", ".join(NAMES), "are 3: the model shows 2 at most"),
        (" ; ", "name what is to be shown, such as 'red cube'"),
    ],
)
def test_what_cannot_be_shown_is_named(text, message):
    with pytest.raises(UserError, match=message) as error:
        conditions.parse(text, NAMES, 2)
    assert "\n" not in str(error.value)


def test_lists_beside_the_data(tmp_path):
    assert conditions.read(tmp_path, NAMES) == {}
    file = tmp_path / conditions.FILE
    file.write_text('{"test": [["red cube"], ["blue sphere", "red cube"]], "unseen": []}')
    assert conditions.read(tmp_path, NAMES) == {"test": [("red cube",), ("blue sphere", "red cube")]}
    file.write_text('{"test": [["red cube"], ["pink cube"]]}')
    with pytest.raises(UserError, match=r"conditions.json: test: entry 1: there is no 'pink cube': use some of"):
        conditions.read(tmp_path, NAMES)
    for text in ("[]", "{", '{"test": 3}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"conditions.json holds no lists of conditions .*: prepare the data again"):
            conditions.read(tmp_path, NAMES)


def test_the_flag_stands_for_a_key_of_the_config():
    short = ["main.py", "--mode=generate", "--labels", "a, b", "--labels=c"]
    assert spelled_out(short) == ["main.py", "--mode=generate", "--config.generate.labels=a, b", "--config.generate.labels=c"]
