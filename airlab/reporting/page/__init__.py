"""The page of one or many experiments' results: a single HTML file, a pure function of results folders."""
