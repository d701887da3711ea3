r"""A Markdown extension that renders formulas as MathML while the site is built.

``pymdownx.arithmatex`` finds ``$…$`` and ``$$…$$`` and leaves ``\(…\)`` and ``\[…\]`` in elements of class
``arithmatex``. This extension replaces each by MathML, which browsers draw without a script. GitHub reads the same
notation.
"""

from __future__ import annotations

import html
import re

from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor
from math_core import LatexToMathML

_FOUND = re.compile(r'<(span|div) class="arithmatex">\s*\\([(\[])(.*?)\\[)\]]\s*</\1>', re.DOTALL)
_converter = LatexToMathML()  # raises LatexError where it does not understand: the build stops


class _ToMathML(Postprocessor):
    def run(self, text: str) -> str:
        return _FOUND.sub(_rendered, text)


def _rendered(found: re.Match[str]) -> str:
    tag, bracket, latex = found.groups()
    is_block = bracket == "["
    formula = _converter.convert_with_local_state(html.unescape(latex).strip(), displaystyle=is_block)
    return f'<{tag} class="formula">{formula}</{tag}>'


class MathML(Extension):
    """See the module."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - the name that Markdown calls
        """Register the replacement after the HTML is complete."""
        md.postprocessors.register(_ToMathML(md), "mathml", 5)


def makeExtension(**settings: object) -> MathML:  # noqa: N802 - the name that Markdown calls
    """Make the extension."""
    return MathML(**settings)
