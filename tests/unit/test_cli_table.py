"""Tables of the command line."""

from triton_stub.cli.table import table


def test_cells_with_several_lines():
    assert table(("A", "Long header"), [("one", "x"), ("two\n\nlines ", ""), ("", "y\n")]) == (
        "+--------+-------------+\n"
        "| A      | Long header |\n"
        "+--------+-------------+\n"
        "| one    | x           |\n"
        "| two    |             |\n"
        "|        |             |\n"
        "| lines  |             |\n"
        "|        | y           |\n"
        "+--------+-------------+"
    )


def test_no_rows():
    assert table(("A",), []).splitlines() == ["+---+", "| A |", "+---+", "+---+"]


def test_folded_to_the_width_of_the_terminal():
    wide = [("a", "word " * 20 + "\nmore"), ("b", "")]
    lines = table(("A", "B"), wide, columns=40).splitlines()
    assert max(map(len, lines)) <= 40
    text = " ".join(line.split("|")[2].strip() for line in lines[3:-2])
    assert text == "word " * 20 + "more"
    assert len(table(("A", "B"), wide).splitlines()[0]) > 100
    assert table(("A",), [("x",)], columns=40) == table(("A",), [("x",)])
