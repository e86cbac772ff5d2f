"""`infer.py --format xmp`: the tags of an image as keywords in the XMP file beside it.

Photo managers keep ratings and edits in such files. What they wrote is never changed: a file is
written only where there is none, or where one of this module stands that nobody has changed.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, unescape

from lib.common.errors import UserError, writing
from lib.common.files import write_text
from lib.common.locks import folder_lock
from lib.common.readers import SETTINGS, open_untrusted
from lib.inference.tags import TaggedImage

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="SGRE">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject>
    <rdf:Bag>
{items}    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
ITEM = "     <rdf:li>{}</rdf:li>\n"


def write_sidecar(image: TaggedImage) -> bool:
    """Add the labels of an image to the keywords (`dc:subject`) of the XMP file beside it; False,
    without a change, where a file of another program stands."""
    file = Path(f"{image.path}.xmp")
    with writing(file), folder_lock(file.parent):  # or of two processes one would lose its keywords
        known = _own_keywords(file)
        if known is not None:
            labels = [tag.label for tag in image.predicted]
            text = _packet(list(dict.fromkeys([*known, *labels])))
            ElementTree.fromstring(text)  # fails before a file that can be read is replaced
            write_text(file, text)
    return known is not None


def _own_keywords(file: Path) -> list[str] | None:
    """The keywords of `file`; none without one, None if it is not as this module wrote it."""
    if not os.path.lexists(file):
        return []
    try:
        with open_untrusted(file, SETTINGS) as content:
            text = content.read().decode(errors="replace")
    except UserError:  # a folder, a pipe, or nothing that this process may read
        return None
    keywords = [unescape(item) for item in re.findall("<rdf:li>(.*)</rdf:li>", text)]
    return keywords if text == _packet(keywords) and not file.is_symlink() else None


def _packet(keywords: Sequence[str]) -> str:
    return PACKET.format(items="".join(ITEM.format(escape(keyword)) for keyword in keywords))
