"""Reading, fitting and splitting the user's examples."""
