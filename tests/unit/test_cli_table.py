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
