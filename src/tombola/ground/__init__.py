"""Ground: what all rooms stand on, from errors and files to seeds and devices."""
