"""Who may use the link: key files, allow-lists, and the sockets that ask for them."""
