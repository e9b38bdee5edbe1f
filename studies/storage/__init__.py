"""The study's folder: what is kept, how it is protected, and how it is found again."""
