"""A study's report: one self-contained HTML file that opens anywhere and can be sent to others."""
