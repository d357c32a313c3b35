"""The scoreboard: what it shows as more of a chapter is stored."""

from dataclasses import asdict

import nbformat
from nbformat import v4

from example import RECORD, full, replication
from learning_mechanics.records import MIME
from learning_mechanics.results import Run
from learning_mechanics.results import write as store
from learning_mechanics.scoreboard import Board, Chapter

NAME = "solvable/example"
BREAKS = RECORD | {"id": "example/edge", "kind": "breaks", "error": 0.5}


def test_the_board_shows_all_that_is_stored(tmp_path):
    notebook = v4.new_notebook(cells=[v4.new_code_cell("")])
    for record in (RECORD, BREAKS):
        notebook.cells[0].outputs.append(
            v4.new_output("display_data", {MIME: record})
        )
    page = tmp_path / f"chapters/{NAME}.ipynb"
    page.parent.mkdir(parents=True)
    nbformat.write(notebook, page)

    def shown():
        board = Board((Chapter.read(tmp_path, NAME),))
        text, html = repr(board), board._repr_html_()
        assert "example/edge" in html
        return text, html

    text, html = shown()
    assert "not yet under fresh seeds; no full run recorded yet" in text
    assert "≤ 0.01   ≈ 0.0005  –" in text
    assert "> 0.01   ≈ 0.5" in text
    assert "fails" not in html

    store(tmp_path / f"results/replication/{NAME}.json", replication(0, 0.02))
    store(
        tmp_path / f"results/reduced/{NAME}.json",
        Run(**asdict(full()) | {"scale": "reduced"}),
    )
    text, html = shown()
    assert "2 fresh seeds, 0 of 1 predictions held under 95%" in text
    assert "no full run recorded yet; reduced scale on GPU" in text
    assert "0.0005 reduced" in text
    assert "1 of 2: 0.01, worst 0.02" in text
    assert '<td data-name="seeds" class="fails">' in html

    store(
        tmp_path / f"results/full/{NAME}.json",
        full(error=0.25, measured=[2.5, 4.0], holds=False),
    )
    text, html = shown()
    assert "full scale on GPU: 0 of 1 as declared, in 61 s" in text
    assert "reduced" not in text
    assert '<td data-name="full" class="fails">0.25</td>' in html
