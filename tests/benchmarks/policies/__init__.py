"""What the policies do to real requests on the real engine: two tenants, one model, one policy after the other."""
