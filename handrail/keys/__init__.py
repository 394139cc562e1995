"""Who may use the link: key files, allow-lists, and the doors that ask for them."""
