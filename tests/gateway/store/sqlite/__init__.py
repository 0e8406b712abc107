"""What is special about the SQLite store: files, lock, group commit, recovery, crashes, query plans."""
