"""Numbers in a text, and what an error quotes."""

import pytest

from utility.files.text_files import finite_number, one_line, shortened, whole_number


@pytest.mark.parametrize("text", ["\u00b2", "0x10", "1,5", "", " ", "-", ".", "1e", "e5", "1 0", "nan", "inf"])
def test_what_is_no_number(text):
    assert finite_number(text) is None and whole_number(text) is None


def test_numbers():
    assert [finite_number(text) for text in ("1", " -.5 ", "+2.", "1e-3", "1E+2")] == [1, -0.5, 2, 0.001, 100]
    assert finite_number("1e999") is finite_number("1_0") is finite_number("\u0663") is None
    assert [whole_number(text) for text in ("12", " -3 ", "+0")] == [12, -3, 0]
    assert whole_number("1.0") is whole_number("1e3") is whole_number("9" * 10**6) is None


def test_a_quotation_is_one_short_line():
    assert shortened("abc") == "abc" and shortened((1, 2.5)) == "(1, 2.5)"
    assert shortened("a\nb\ud800") == "a\\nb\\ud800"
    for value in ("x" * 10**6, ["y" * 100] * 100, {str(n): [n] * 99 for n in range(99)}, 10**40, "\n" * 80):
        assert len(shortened(value)) <= 80


def test_spaces_of_all_scripts_are_shown_as_they_are():
    text = "a\u00a0b\u3000c\u2003d"
    assert shortened(text) == one_line(text) == text
    assert one_line("a\nb\u2028c\u202ed\x1b") == "a b c\\u202ed\\x1b"
