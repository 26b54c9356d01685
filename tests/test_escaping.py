"""Texts of other people on a page: a browser shows each letter of them, and runs nothing."""

import io

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import yaml

from helpers import data, escaping, model_files
from helpers.book import claims, pages, scoreboard
from helpers.modelmap import explorer
from helpers.synthesis import model_kinds, signal_prose, signals

# Each runs a script, or shows a link, a formula, a file or a 49, where it is not text alone.
HOSTILE = [
    "<img src=x onerror=window.ran=1>",
    "</td></table><script>window.ran=2</script>",
    "```{raw} html\n<script>window.ran=3</script>\n```",
    "`` {raw-html}`<b onmouseover=window.ran=4>` ``",
    "{{ 7 * 7 }} {{ ''.__class__.__mro__ }}",
    "[a](javascript:window.ran=5) ![b](x.png) <javascript:window.ran=6>",
    r"$\href{javascript:window.ran=7}{7}$ $$x$$ \(y\) \[z\]",
    "{eq}`x` {download}`conftest.py` {cite:p}`a` [](conf.py) [^1]",
    "a | b || `c` \\| \\` **d** _e_ ~~f~~ &lt; &#60;",
    "::: {note}\n# h\n:::",
]


def shown(text):
    """Return what a reader should see, without the white space that a browser makes one."""
    return " ".join(text.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_and_code_give_back_each_letter(text):
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    extensions = yaml.safe_load((data.ROOT / "_config.yml").read_text())["parse"]
    config = MdParserConfig(enable_extensions=set(extensions["myst_enable_extensions"]))
    parser = create_md_parser(config, RendererHTML)
    for form in (escaping.markdown, escaping.code):
        tokens = parser.parse(f"x {form(text)} y")
        assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        kinds = {t.type for t in tokens[1].children}
        assert kinds <= {"text", "code_inline"}
        read = "".join(t.content for t in tokens[1].children)
        assert read == f"x {escaping.printable(text)} y"


def test_a_line_stays_a_line_of_bounded_length():
    assert escaping.printable("a\nb\x1b[31m\u202ec\x00") == r"a\nb\x1b[31m\u202ec\x00"
    assert escaping.printable("é ü 中 😀") == "é ü 中 😀"
    assert escaping.printable("x" * 10**6, 10) == "x" * 9 + "…"
    refusal = model_files.Refusal("\x1b]0;title\x07" + "y" * 10**6, "cure it")
    assert len(str(refusal)) < 1100 and refusal.reason.startswith(r"\x1b]0;title\x07yyy")


def test_names_in_figures_are_no_formulas():
    names = [r"$\frac$", "a$b", "$x$", r"\$c$", "_hidden", "plain"]
    fig, ax = plt.subplots()
    for name in names:
        ax.plot([0, 1], label=escaping.label(name))
    texts = ax.legend().get_texts()
    fig.draw_without_rendering()
    assert [t._preprocess_math(t.get_text())[0].strip() for t in texts] == names
    assert not any(t._preprocess_math(t.get_text())[1] for t in texts)
    plt.close(fig)


def notebook():
    """Return a page with the hostile texts in every place where the book shows texts of others."""
    nb, outputs = nbformat.v4.new_notebook(), []

    def out(found):
        kind = "text/markdown" if isinstance(found, str) else "text/html"
        said = found if isinstance(found, str) else found._repr_html_()
        outputs.append(nbformat.v4.new_output("display_data", data={kind: said}))

    looks = [model_kinds.Look(text, "refused", reason=text, cure=text) for text in HOSTILE]
    raw = {look.name: signals.measure(look, None) for look in looks}
    with pd.option_context("display.max_colwidth", None):
        out(model_kinds.table(looks))
        out(signal_prose.reasons(raw))
    for name, part in raw.items():
        out(signal_prose.paragraph(name, part, None, None, None))
    frame = pd.DataFrame(
        {text: HOSTILE for text in HOSTILE[:2]}, pd.Index(HOSTILE, name=HOSTILE[0])
    )
    out(escaping.styled(frame.rename_axis(columns=HOSTILE[1])))
    out(claims._style(frame))
    table = pd.DataFrame({"kind": HOSTILE}, HOSTILE)
    near = pd.DataFrame({"point": HOSTILE[:1], "nearest": HOSTILE[1:2], "distance": [1.0]})
    places = {HOSTILE[0]: [[i, i] for i in range(len(HOSTILE))]}
    out(explorer.show(table, places, near, title=HOSTILE[0], distance=HOSTILE[1], group="kind"))
    nb.cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("0")]
    nb.cells[1].outputs = outputs
    nb.cells[1].outputs += [nbformat.v4.new_output("stream", text="\n".join(HOSTILE) + "\n")]
    facts = dict.fromkeys(("commit", "versions", "seed", "hardware", "profile"), "x")
    record = {"notebook": "a/b", "facts": facts, "profile": "laptop", "threads": 1, "command": "y"}
    record |= {"parameters": {"models": HOSTILE}, "started": "now", "seconds": 1.0}
    record |= {"cpu_seconds": 1.0, "peak_mib": 1}
    nb.cells.append(pages.box(record))
    claim = next(iter(claims.load().values()))
    rows = [
        {**claim, "status": claims.NOT_TESTED, "note": text, "ours": HOSTILE} for text in HOSTILE
    ]
    board = scoreboard.table([{**row, "id": f"c{i}"} for i, row in enumerate(rows)])
    nb.cells[1].outputs.append(nbformat.v4.new_output("display_data", data={"text/html": board}))
    return nb


def test_nothing_of_them_runs_in_a_browser(browser, tmp_path):  # noqa: F811
    from sphinx.application import Sphinx

    source = tmp_path / "source"
    source.mkdir()
    nbformat.write(notebook(), source / "index.ipynb")
    told = yaml.safe_load((data.ROOT / "_config.yml").read_text())
    config = {
        "extensions": ["myst_nb"],
        "nb_execution_mode": "off",
        "myst_enable_extensions": told["parse"]["myst_enable_extensions"],
        "nb_render_markdown_format": told["sphinx"]["config"]["nb_render_markdown_format"],
        "html_theme": "basic",
        "smartquotes": False,
    }
    places = str(source), None, str(tmp_path / "html"), str(tmp_path / "trees"), "html"
    Sphinx(*places, confoverrides=config, status=None, warning=io.StringIO()).build()
    page = browser.new_page()
    page.goto((tmp_path / "html" / "index.html").as_uri())
    page.wait_for_timeout(100)
    for what in ("img", ".math", "section section", "b", "del", "h2", "a[href^=javascript]"):
        assert not page.query_selector(f".body {what}"), what
    assert page.evaluate("window.ran") is None
    seen = shown(page.inner_text(".body"))
    page.close()
    for text in HOSTILE:
        forms = {shown(text), shown(escaping.printable(text))}
        # Looks, reasons, paragraphs, two styled tables, output, ledger: some in several columns.
        assert sum(seen.count(form) for form in forms) >= 3 + 3 + 3 + 5 + 1 + len(HOSTILE), text
        assert repr(text) in seen
    assert "49" not in seen
