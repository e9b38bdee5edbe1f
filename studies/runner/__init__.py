"""Running a study: sessions, progress, extensions, and what a run would cost."""
