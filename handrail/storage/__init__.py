"""What survives a crash: SQLite files, the spool of unacknowledged rows, and the disk below."""
