"""A study's report: one self-contained HTML file, to open anywhere and to send to colleagues."""
