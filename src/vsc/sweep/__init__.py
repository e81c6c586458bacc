"""Many runs, each found again by its settings."""
