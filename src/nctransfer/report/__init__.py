"""Results as sheets; sheets as terminal tables, Markdown, LaTeX, JSON and HTML."""
