"""The command that watches over taps and the archive: it runs them, and shows what is held."""
