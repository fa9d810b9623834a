"""What stands in a Markdown table stays text, whatever a title, a caption or a file's name holds."""

from html.parser import HTMLParser

from minivlm.markdown import cell, image, table

BAD = '"><script>a("1")</script>|`b`\n# h **c** _d_ [l](javascript:1) &amp; ~e~ $f$ \\'


class Parsed(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_cell_holds_no_character_of_markup_and_reads_as_it_was():
    made = cell(BAD)
    assert not set(made) & set('<>"|*_`[]~$\\\n')
    parsed = Parsed(made)
    assert parsed.tags == [] and parsed.text == " ".join(BAD.split())


def test_a_pictures_name_and_title_cannot_leave_their_attributes():
    parsed = Parsed(image('../a#1 "x" onload=y?%20|.jpg', BAD, 160))
    ((tag, values),) = parsed.tags
    assert tag == "img" and set(values) == {"src", "alt", "width"}
    assert values["src"] == "../a%231%20%22x%22%20onload%3Dy%3F%2520%7C.jpg"
    assert values["alt"] == " ".join(BAD.split()) and not parsed.text


def test_columns_of_numbers_are_to_the_right():
    assert table(["a", "b"], [["x", "1"]], left=1) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"
    assert table(["a"], [], left=1) == ""
