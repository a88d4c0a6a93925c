"""The System page: what runs here, why, and how busy it is."""
