"""Live feeds: what a source sends becomes messages of a topic's contract, or dead letters with their reason."""
