"""What is special about the store on Redis."""
