"""report.html: an evaluation on one page that needs no other file."""
