"""``/v1/llmos/socket``: the four system calls for clients elsewhere (`llmos.Client` with an address)."""
