"""A study's run: sessions, progress, extensions, and what a run would cost."""
