"""Who may use the link: key files, allow-lists, and the command that writes them."""
