"""The attacks, by theme. Their code is text; nothing here runs it."""
