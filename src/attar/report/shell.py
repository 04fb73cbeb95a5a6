"""What every page is wrapped in: templates, the policy that forbids all else, live charts, a file that is replaced."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from attar.errors import OutputError
from attar.report import words
from attar.report.latency import milliseconds
from attar.types import Json

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""All that page.js needs of the bundle."""

TEMPLATES = Path(__file__).parent / "templates"


def finished(
    template: str, styles: Sequence[str], scripts: Sequence[str], bundle: str, content: Mapping[str, Any]
) -> str:
    """A page from its template, with its own styles and scripts; bundle is Vega's, or "" for still drawings."""
    style, own = ("\n".join((TEMPLATES / name).read_text("utf-8") for name in names) for names in (styles, scripts))
    code = [own, *([bundle] if bundle else [])]
    page = (
        _environment()
        .get_template(template)
        .render(scripts=code, style=style, policy=_policy(code, style), live=bundle != "", **content)
    )
    # JSON and the names of files can hold half a surrogate pair, which no encoding takes.
    return str(page).encode("utf-8", errors="replace").decode("utf-8")


def check_free(out: Path, force: bool) -> None:
    """That a page may be written to `out`; raises OutputError."""
    if out.is_dir() or (out.exists() and not force):
        remedy = "Name a file." if out.is_dir() else "Use --force or another name."
        raise OutputError(f"report: the output must not exist. Received {str(out)!r}. {remedy}")


def write(out: Path, page: str) -> None:
    """The page as a file, by a temporary file and a rename; raises OutputError."""
    try:
        _replace(out, page.encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"report: the output must be writable. Received {str(out)!r} ({error.strerror}). Choose another folder."
        ) from error


def _replace(out: Path, data: bytes) -> None:
    """Write beside `out`, then rename; nothing is left behind where that fails."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; a report is to be shared.
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, or "" where vl-convert is not installed."""
    try:
        import vl_convert
    except ImportError:
        return ""
    # Inside an HTML script element only these two could end or nest it; in JavaScript the escapes mean the same.
    return str(vl_convert.javascript_bundle(_SNIPPET)).replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str], style: str) -> str:
    """A Content-Security-Policy that allows these very scripts and this style, embedded pictures, and nothing else."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    """A source expression of CSP level 2."""
    return f"'sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def script_json(value: Json) -> str:
    """JSON that is safe inside an HTML script element, whatever the strings in it say."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> jinja2.Environment:
    """Jinja with autoescape and the words as filters; what a ledger lacks is undefined, and shown as a dash."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for word in (words.size, words.ratio, words.percent, words.plain, words.whole, words.duration, words.moment):
        environment.filters[word.__name__] = word
    environment.filters["milliseconds"] = milliseconds
    environment.filters["file_name"] = words.file_name
    environment.filters["quoted"] = lambda name: shlex.quote(str(name))
    environment.filters["python"] = lambda name: json.dumps(str(name), ensure_ascii=False)
    environment.filters["class_name"] = lambda name: f"class {name}" if str(name).isdecimal() else name
    environment.filters["script_json"] = lambda value: Markup(script_json(value))
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str)
    # Where a long name may be broken.
    environment.filters["pieces"] = lambda name: re.split(r"(?<=[/._:])", name)
    # Only for the page's own scripts and style, which are files of this package and the Vega bundle.
    environment.filters["own"] = Markup
    return environment
