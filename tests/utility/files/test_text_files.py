"""What an error quotes of a text."""

from utility.files.text_files import one_line, shortened


def test_a_quotation_is_one_short_line():
    assert shortened("abc") == "abc" and shortened((1, 2.5)) == "(1, 2.5)"
    assert shortened("a\nb\ud800") == "a\\nb\\ud800"
    for value in ("x" * 10**6, ["y" * 100] * 100, {str(n): [n] * 99 for n in range(99)}, 10**40, "\n" * 80):
        assert len(shortened(value)) <= 80


def test_spaces_of_all_scripts_are_shown_as_they_are():
    text = "a\u00a0b\u3000c\u2003d"
    assert shortened(text) == one_line(text) == text
    assert one_line("a\nb\u2028c\u202ed\x1b") == "a b c\\u202ed\\x1b"
