"""What search engines and links to the site show of it.

Every page that has a description in its front matter,

    myst:
      html_meta:
        description: One or two sentences, 50 to 160 characters.

gets the tags of OpenGraph and Twitter cards; the front page a schema.org Course beside them, and each page that states
a time a LearningResource. Canonical links, sitemap.xml and the pictures of the cards need to know where the site will
stand. That is `html: baseurl:` in _config.yml or, where a host builds the site and knows best, the environment variable
SITE_ADDRESS. Without either they are left out, since they have no relative form.
"""

import json
import os
from html import escape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from card import draw_card, draw_icon
from docutils import nodes
from reading_paths import kind
from sphinx.errors import ConfigError

LICENSE = "https://creativecommons.org/licenses/by/4.0/"
ICON = "apple-touch-icon.png"
SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{}
</urlset>
"""
KINDS = {"bn-chapter": "Chapter", "bn-set": "Problem set"}


def settle_address(app, config):
    """Take the site's address from the environment where the configuration has none, and give it its last slash."""
    address = config.html_baseurl or os.environ.get("SITE_ADDRESS", "")
    if address:
        parts = urlsplit(address)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ConfigError(
                f"the site's address is {address!r}: give all of it, such as 'https://example.org/course/', as baseurl "
                "in _config.yml or in SITE_ADDRESS"
            )
        address = address.rstrip("/") + "/"
    config.html_baseurl = address
    config.templates_path.append(str(Path(__file__).parent / "pages"))


def description(doctree):
    """Return the description that a page's front matter gives, or ""."""
    found = (node["content"] for node in doctree.findall(nodes.meta) if node.get("name") == "description")
    return next(found, "")


def add_tags(app, pagename, templatename, context, doctree):
    """Put everything into the head of a page."""
    folder = context["pathto"]("_static", 1)
    tags = [f'<link rel="apple-touch-icon" href="{folder}/{ICON}">']
    about = description(doctree) if doctree else ""
    if pagename == "search":
        tags.append('<meta name="robots" content="noindex">')
    elif about:
        tags += cards(app, context, pagename, about)
        if data := structured_data(app, pagename, about, context["pageurl"]):
            text = json.dumps(data, ensure_ascii=False, indent=1).replace("</", "<\\/")
            tags.append(f'<script type="application/ld+json">\n{text}\n</script>')
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])
    if pagename == app.config.root_doc:
        context["docstitle"] = ""  # else the front page is called by the course's name twice


def cards(app, context, pagename, about):
    """Yield the tags of OpenGraph, and of Twitter where they differ; draw the picture they show."""
    title = page_title(app, pagename)
    is_front = pagename == app.config.root_doc
    yield meta("property", "og:site_name", app.config.html_title)
    yield meta("property", "og:type", "website" if is_front else "article")
    yield meta("property", "og:title", title)
    yield meta("property", "og:description", about)
    if not app.config.html_baseurl:
        yield meta("name", "twitter:card", "summary")
        return
    picture = f"_static/cards/{pagename.replace('/', '-')}.png"
    draw_card(Path(app.outdir, picture), title, "" if is_front else app.config.html_title, about)
    yield meta("property", "og:url", context["pageurl"])
    yield meta("property", "og:image", urljoin(app.config.html_baseurl, picture))
    yield meta("property", "og:image:width", "1200")
    yield meta("property", "og:image:height", "630")
    yield meta("property", "og:image:alt", f"{title}: {about}")
    yield meta("name", "twitter:card", "summary_large_image")


def meta(attribute, name, content):
    """Return a <meta>."""
    return f'<meta {attribute}="{name}" content="{escape(content)}">'


def page_title(app, pagename):
    """Return the title of a page as plain text."""
    return app.env.titles[pagename].astext()


def structured_data(app, pagename, about, url):
    """Return what schema.org calls the page, or None for a page that isn't for learning."""
    course = {"@type": "Course", "name": app.config.html_title, "inLanguage": app.config.language}
    if app.config.html_baseurl:
        course["url"] = urljoin(app.config.html_baseurl, app.builder.get_target_uri(app.config.root_doc))
    minutes = app.env.metadata[pagename].get("minutes")
    shared = {"@context": "https://schema.org", "description": about, "isAccessibleForFree": True, "license": LICENSE}
    authors = {"@type": "Organization", "name": app.config.author}
    if pagename == app.config.root_doc:
        hours = round(sum(metadata.get("minutes", 0) for metadata in app.env.metadata.values()) / 60)
        instance = {"@type": "CourseInstance", "courseMode": "Online", "courseWorkload": f"PT{hours}H"}
        offer = {"@type": "Offer", "category": "Free", "price": 0, "priceCurrency": "USD"}
        return shared | course | {"provider": authors, "hasCourseInstance": instance, "offers": offer}
    if minutes:
        resource = {
            "@type": "LearningResource",
            "name": page_title(app, pagename),
            "inLanguage": app.config.language,
            "learningResourceType": KINDS[kind(app.env, pagename)],
            "timeRequired": f"PT{minutes}M",
            "author": authors,
            "isPartOf": course,
        }
        return shared | resource | ({"url": url} if url else {})
    return None


def page_not_found(app):
    """Give 404.html, which hosts show at whatever address was asked for: its links can't be relative to that."""
    if app.builder.name == "html":
        yield "404", {"title": "Page not found", "site": urlsplit(app.config.html_baseurl).path}, "404.html"


def write_files(app, error):
    """Write robots.txt, the icon for phones and, where the address is known, sitemap.xml."""
    if error or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    draw_icon(folder / "_static" / ICON)
    address = app.config.html_baseurl
    sitemap = f"Sitemap: {urljoin(address, 'sitemap.xml')}\n" if address else ""
    (folder / "robots.txt").write_text(f"User-agent: *\nAllow: /\n{sitemap}", encoding="utf-8")
    (folder / "sitemap.xml").unlink(missing_ok=True)  # of a build for another address
    if address:
        pages = (urljoin(address, app.builder.get_target_uri(name)) for name in sorted(app.env.found_docs))
        places = "\n".join(f"  <url><loc>{escape(page)}</loc></url>" for page in pages)
        (folder / "sitemap.xml").write_text(SITEMAP.format(places), encoding="utf-8")


def setup(app):
    """Connect to Sphinx."""
    app.connect("config-inited", settle_address)
    app.connect("html-page-context", add_tags)
    app.connect("html-collect-pages", page_not_found)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
