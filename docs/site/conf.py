"""Sphinx's settings for the site; `make site` lays its pages out and calls it."""

project = "buildgpt"
author = "buildgpt"
copyright = "the authors of buildgpt, MIT licence"
extensions = ["myst_parser", "sphinx_copybutton", "sphinx_design"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "buildgpt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
templates_path = ["_templates"]
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses for files
html_show_sphinx = False
html_theme_options = {
    "top_of_page_buttons": [],
    # By day the style of the code would have it on the page's own white.
    "light_css_variables": {"color-code-background": "#f6f8fa"},
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_exclude = ".linenos, .gp, .go"
suppress_warnings = ["misc.highlighting_failure"]
smartquotes = False
