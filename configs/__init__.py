"""One experiment a file; its docstring is the lab notebook."""
