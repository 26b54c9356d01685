"""A role for prose: {measured}`claim-id` is the number that the run behind these pages found."""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxRole

# Written beside the pages by `helpers.book.pages.generated`.
NUMBERS = "_generated/measured.json"


class Measured(SphinxRole):
    """Put in what was measured for a claim, with a link to the page that measured it.

    The text is `claim-id`, or `claim-id:.2f` with a format of Python; with `[]` at its end the
    interval follows the number. Pointed at, it says how many other choices agree, where they were
    tried. An unknown id is an error.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the nodes of the number, or what is wrong with the text."""
        path = Path(self.env.srcdir) / NUMBERS
        self.env.note_dependency(str(path))
        name, _, form = self.text.removesuffix("[]").rstrip().partition(":")
        row = json.loads(path.read_text()).get(name)
        if row is None:
            return [], [self.inliner.reporter.error(f"measured: {name!r} is no claim")]
        try:
            told = row["text"] if not form or row["value"] is None else format(row["value"], form)
            if self.text.endswith("[]") and row["interval"]:
                ends = (format(end, form) for end in row["interval"])
                told += " [" + ",\N{NO-BREAK SPACE}".join(ends) + "]"
        except (TypeError, ValueError) as problem:
            return [], [self.inliner.reporter.error(f"measured: {self.text!r}: {problem}")]
        # As in the rest of the prose: a minus and a per cent sign, not a hyphen and a suffix.
        told = told.replace("-", "\N{MINUS SIGN}").replace("%", "\N{NO-BREAK SPACE}%")
        link = pending_xref(
            self.rawtext,
            refdomain="std",
            reftype="ref",
            reftarget=row["label"],
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=row["value"] is not None,
        )
        link += nodes.inline(told, told)
        choices = row.get("choices")
        return [nodes.abbreviation("", "", link, explanation=choices) if choices else link], []


def setup(app) -> dict:
    """Register the role with Sphinx."""
    app.add_role("measured", Measured())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
