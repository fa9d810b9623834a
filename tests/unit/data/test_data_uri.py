"""One form of a picture's data: URI, for those who make it and those who read it."""

import pytest

from minivlm.data.data_uri import data_uri, is_data_uri, picture_bytes


def test_what_is_made_is_read():
    made = data_uri(b"\xff\xd8 picture", "JPEG")
    assert made == "data:image/jpeg;base64,/9ggcGljdHVyZQ==" and is_data_uri(made)
    assert picture_bytes(made) == b"\xff\xd8 picture"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://127.0.0.1/a.png", "no address and no file is opened"),
        ("data:text/html;base64,QQ==", "begins with data:image/<format>;base64,"),
        ("data:image/png,abc", "begins with data:image/<format>;base64,"),
        ("data:image/png;base64,Q Q==", "not base64"),
        ("data:image/png;base64,图", "not base64"),
    ],
)
def test_anything_else_is_refused_in_words(text, said):
    with pytest.raises(ValueError, match=said):
        picture_bytes(text)
