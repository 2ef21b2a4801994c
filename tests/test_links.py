"""Relative links in the documents lead somewhere."""

import re
import string

from conftest import ROOT

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)|<(?:img|source)[^>]*\bsrc=\"([^\"]+)\"")


def prose(path):
    """A document without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "code", FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path):
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    dropped = str.maketrans("", "", string.punctuation.replace("-", "").replace("_", ""))
    return {heading.strip().lower().translate(dropped).replace(" ", "-") for heading in headings}


def broken(path):
    """The links of a document that lead nowhere."""
    for link in (a or b for a, b in LINK.findall(prose(path))):
        place, _, anchor = link.partition("#")
        target = path.parent / place if place else path
        if re.match(r"\w+:", link):
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield f"{path.relative_to(ROOT)}: {link}"


def test_relative_links_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert documents
    found = [link for path in documents for link in broken(path)]
    assert not found, "\n".join(found)
