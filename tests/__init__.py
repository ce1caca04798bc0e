"""All tests. A package, as are the folders whose fixtures end with them: pytest scopes nothing to a plain folder."""
