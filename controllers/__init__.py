"""Pure 1 kHz control: no sockets, no threads, no devices."""
