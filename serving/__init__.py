"""A trained run behind HTTP and a web page, and in the formats of other servers."""
