"""What exraft reaches, beside what the machine can do and what PySyncObj reaches: `make bench`."""
